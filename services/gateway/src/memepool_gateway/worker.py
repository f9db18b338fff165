"""The worker of the gateway: the one writer of the live stream."""

import asyncio

from memepool_common.events import Bus
from memepool_common.web.app import Probes
from memepool_gateway.settings import Settings
from memepool_gateway.stream import StreamStore
from memepool_gateway.stream.writer import QUEUE, StreamWriter, routing_keys


def topology() -> dict[str, list[str]]:
    """The gateway's queue, and what it is bound to."""
    return {QUEUE: routing_keys()}


async def run(
    settings: Settings,
    bus: Bus,
    _probes: Probes,
    stopping: asyncio.Event,
    stream: StreamStore,
) -> None:
    """Write what the bus brings into `stream`, until `stopping`; what is in hand is finished."""
    writer = StreamWriter(stream, tally_interval_s=settings.stream.tally_interval_s)
    await writer.run(bus, stopping)
