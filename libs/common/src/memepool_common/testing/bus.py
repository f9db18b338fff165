"""Helpers around buses: one that repeats, delays and reorders, and a wait for quiet."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from sqlalchemy import text

from memepool_common.db import Database
from memepool_common.events.bus import Bus, Inlet, Message, Topology


class UnreliableBus:
    """A bus that delivers every message twice, once late and out of order, within its promises."""

    def __init__(self, bus: Bus, *, seed: int, delay_s_max: float = 0.5) -> None:
        self._bus = bus
        self._random = random.Random(seed)  # noqa: S311 - a simulation
        self._delay_s_max = delay_s_max
        self._late: set[asyncio.Task[None]] = set()

    async def declare(self, topology: Topology) -> None:
        """As the bus does."""
        await self._bus.declare(topology)

    async def publish(self, messages: Sequence[Message]) -> Sequence[Exception | None]:
        """Publish, and again later in another order."""
        outcomes = await self._bus.publish(messages)
        again = list(messages)
        self._random.shuffle(again)
        task = asyncio.create_task(self._later(again, self._random.uniform(0, self._delay_s_max)))
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        return outcomes

    def subscribe(self, queue: str) -> AbstractAsyncContextManager[Inlet]:
        """As the bus does."""
        return self._bus.subscribe(queue)

    async def settle(self) -> None:
        """Wait until everything late has been published."""
        await asyncio.gather(*self._late)

    async def _later(self, messages: Sequence[Message], delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await self._bus.publish(messages)


async def drain(bus_database: Database, *outboxes: Database, timeout_s: float = 30.0) -> None:
    """Wait until no outbox holds unpublished events and no queue holds undelivered messages."""
    pending = text("select count(*) from outbox where published_at is null")
    queued = text("select count(*) from bus_message where dead_at is null and queue <> 'unrouted'")
    async with asyncio.timeout(timeout_s):
        while True:
            left = 0
            for database, query in [*((box, pending) for box in outboxes), (bus_database, queued)]:
                async with database.read() as session:
                    left += (await session.execute(query)).scalar_one()
            if left == 0:
                return
            await asyncio.sleep(0.02)
