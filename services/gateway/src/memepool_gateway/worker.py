"""The worker of the gateway: the one writer of the live stream."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

from memepool_common.events import Bus
from memepool_common.settings import BusSettings
from memepool_common.web.app import Probes
from memepool_common.worker import run_on_broker
from memepool_gateway.settings import Settings
from memepool_gateway.stream import RedisStream, StreamStore
from memepool_gateway.stream.writer import QUEUE, StreamWriter, routing_keys

REDIS_VARIABLE = "MEMEPOOL_GATEWAY_REDIS__URL"


def topology() -> dict[str, list[str]]:
    """The gateway's queue, and what it is bound to."""
    return {QUEUE: routing_keys()}


async def run(
    settings: Settings,
    bus: Bus,
    _probes: Probes,
    stopping: asyncio.Event,
    stream: StreamStore | None = None,
) -> None:
    """Write what the bus brings into the stream, until `stopping`; what is in hand is finished.

    `stream` is the one in Redis, unless this process keeps it.
    """
    async with contextlib.AsyncExitStack() as stack:
        if stream is None:
            if settings.redis is None:
                sys.exit(f"{REDIS_VARIABLE} is not set: without it the API writes its own stream")
            stream = RedisStream(settings.redis, settings.stream)
            stack.push_async_callback(stream.close)
        writer = StreamWriter(stream, tally_interval_s=settings.stream.tally_interval_s)
        await writer.run(bus, stopping)


@contextlib.asynccontextmanager
async def writing(
    settings: Settings, bus_settings: BusSettings, stream: StreamStore
) -> AsyncIterator[None]:
    """Write inside the block, beside the API. Requests are answered while the broker is away."""
    stopping = asyncio.Event()
    probes = Probes()  # of our own: the stream is not what makes the gateway ready

    async def work(bus: Bus) -> None:
        await run(settings, bus, probes, stopping, stream)

    writer = asyncio.create_task(
        run_on_broker(work, bus_settings, topology(), probes, stopping, name="gateway")
    )
    try:
        yield
    finally:
        stopping.set()
        await writer
