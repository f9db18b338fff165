"""The outside world alone, for services that run as processes of their own: chain and image AI."""

import argparse
import asyncio
import contextlib
import os
import sys

import uvloop
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from memepool_common import telemetry
from memepool_common.pausing import pause
from memepool_common.server import serving, stop_on_signals
from memepool_common.settings import TelemetrySettings, environment
from memepool_sandbox.aitubo.app import AituboSettings, create_aitubo_app
from memepool_sandbox.chain.journal import JournalError
from memepool_sandbox.chain.node import Node
from memepool_sandbox.chain_app import ChainSettings, create_chain_app
from memepool_sandbox.faults import Faults

EXIT_UNUSABLE = 2
RATE_PER_S_MAX = 200


class WorldSettings(BaseSettings):
    """`MEMEPOOL_SANDBOX_AITUBO_KEY`: what the image AI wants to see from its customers."""

    model_config = environment("sandbox")

    aitubo_key: SecretStr


def world(arguments: argparse.Namespace) -> int:
    """Serve the simulated chain on `port` and AITubo on the next one; returns the exit code."""
    telemetry.setup("sandbox", TelemetrySettings(log_level="WARNING"))
    try:
        uvloop.run(_serve(arguments, WorldSettings()))
    except (ValidationError, JournalError, OSError) as error:
        print(f"memepool: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    return os.EX_OK


async def _serve(arguments: argparse.Namespace, settings: WorldSettings) -> None:
    stopping = stop_on_signals()
    arguments.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    faults = Faults()
    with contextlib.closing(Node.open(arguments.data / "chain.journal")) as node:
        chain = create_chain_app(node, ChainSettings(rate_per_s=RATE_PER_S_MAX), faults)
        keys = AituboSettings(api_key=settings.aitubo_key)
        aitubo = create_aitubo_app(arguments.data / "aitubo", keys, faults)
        async with (
            serving(chain, arguments.host, arguments.port),
            serving(aitubo, arguments.host, arguments.port + 1),
        ):
            await mine(node, arguments.block_seconds, stopping)


async def mine(node: Node, interval_s: float, stopping: asyncio.Event) -> None:
    """A block every `interval_s` seconds."""
    while not stopping.is_set():
        await pause(stopping, interval_s)
        if not stopping.is_set():
            node.mine()
