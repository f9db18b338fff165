"""`make run`: everything on this machine, until Ctrl-C."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping

import uvloop

from memepool_common import telemetry
from memepool_common.server import stop_on_signals
from memepool_common.settings import DatabaseSettings, TelemetrySettings
from memepool_sandbox.chain.node import Node
from memepool_sandbox.launcher import narrator
from memepool_sandbox.launcher.options import HOST, Options, PortTakenError
from memepool_sandbox.launcher.system import (
    System,
    make_data_folder,
    prepare_databases,
    running_system,
)
from memepool_sandbox.players import play
from memepool_sandbox.postgres import PostgresError, start_postgres

EXIT_UNUSABLE = 2


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def run(options: Options) -> int:
    """Run until SIGINT or SIGTERM; returns the exit code."""
    telemetry.setup("sandbox", TelemetrySettings(log_level="WARNING", log_json=False))
    try:
        options.require_free_ports()
        make_data_folder(options.data)
        with start_postgres(options.data / "postgres") as server:
            databases = prepare_databases(server)
            uvloop.run(_run(options, databases))
    except (PortTakenError, PostgresError) as error:
        print(f"memepool: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    except KeyboardInterrupt:
        return 130
    say("Stopped. Everything is kept; the next start goes on from here.")
    return os.EX_OK


async def _run(options: Options, databases: Mapping[str, DatabaseSettings]) -> None:
    stopping = stop_on_signals()
    async with running_system(options, databases) as system:
        _greet(options, system)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(narrator.narrate(system.bus, say, stopping))
            tasks.create_task(_mine(system.node, options.block_seconds, stopping))
            if options.players:
                tasks.create_task(play(system.gateway_url, system.chain_url, options, stopping))
            await stopping.wait()
            say("Stopping: finishing what is in flight…")


async def _mine(node: Node, interval_s: float, stopping: asyncio.Event) -> None:
    """A block every `interval_s` seconds."""
    while not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(interval_s):
                await stopping.wait()
                return
        node.mine()


def _greet(options: Options, system: System) -> None:
    say(
        f"Memepool is ready.\n"
        f"  API and docs     {system.gateway_url}/docs\n"
        f"  live events      {system.gateway_url}/events\n"
        f"  simulated chain  {system.chain_url}/v1/bsv/main/chain/info"
        f"  (control: POST {system.chain_url}/control/mine)\n"
        f"  simulated AITubo http://{HOST}:{options.aitubo_port}\n"
        f"  data             {options.data.resolve()}\n"
        f"A block every {options.block_seconds:g} s, {options.players} players."
        f" Ctrl-C stops; everything is kept."
    )
