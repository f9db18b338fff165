"""The two commands: everything on this machine until Ctrl-C, and one round accounted for."""

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from memepool_common import telemetry
from memepool_common.server import stop_on_signals
from memepool_common.settings import DatabaseSettings, TelemetrySettings
from memepool_sandbox.chain.journal import JournalError
from memepool_sandbox.demo import demo as play_demo
from memepool_sandbox.launcher import narrator
from memepool_sandbox.launcher.options import Options, PortTakenError, free_port_block
from memepool_sandbox.launcher.system import (
    System,
    make_data_folder,
    prepare_databases,
    running_system,
)
from memepool_sandbox.players.crowd import play
from memepool_sandbox.ports import HOST
from memepool_sandbox.postgres import PostgresError, start_postgres
from memepool_sandbox.world import mine

EXIT_WRONG = 1
EXIT_UNUSABLE = 2
EXIT_INTERRUPTED = 130


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def run(options: Options) -> int:
    """`make run`: run until SIGINT or SIGTERM; returns the exit code."""
    return _launched(options, partial(_run, options))


def demo() -> int:
    """`make demo`: one round on ports and in a folder of its own; returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="memepool-demo-") as folder:
        options = Options(port=free_port_block(), players=0, data=Path(folder) / "data")
        return _launched(options, partial(_demo, options))


def _launched(
    options: Options, session: Callable[[Mapping[str, DatabaseSettings]], Coroutine[Any, Any, int]]
) -> int:
    telemetry.setup("sandbox", TelemetrySettings(log_level="WARNING", log_json=False))
    try:
        options.require_free_ports()
        make_data_folder(options.data)
        with start_postgres(options.data / "postgres") as server:
            return uvloop.run(session(prepare_databases(server)))
    except (PortTakenError, PostgresError, JournalError) as error:
        print(f"memepool: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


async def _demo(options: Options, databases: Mapping[str, DatabaseSettings]) -> int:
    async with running_system(options, databases) as system:
        good = await play_demo(
            system.gateway_url,
            system.chain_url,
            system.databases["payments"],
            seed=system.secrets.player_seed.encode(),
            say=say,
        )
    return os.EX_OK if good else EXIT_WRONG


async def _run(options: Options, databases: Mapping[str, DatabaseSettings]) -> int:
    stopping = stop_on_signals()
    async with running_system(options, databases) as system:
        _greet(options, system)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(narrator.narrate(system.bus, say, stopping))
            tasks.create_task(mine(system.node, options.block_seconds, stopping))
            if options.players:
                tasks.create_task(
                    play(
                        system.gateway_url,
                        system.chain_url,
                        count=options.players,
                        seed=system.secrets.player_seed.encode(),
                        stopping=stopping,
                    )
                )
            await stopping.wait()
            say("Stopping: finishing what is in flight…")
    say("Stopped. Everything is kept; the next start goes on from here.")
    return os.EX_OK


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
