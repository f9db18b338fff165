"""Buses for tests, around a real one: one that repeats and reorders, one that keeps count."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager

from sqlalchemy import text

from memepool_common.db import Database
from memepool_common.events.bus import Bus, Delivery, Inlet, Message, Topology
from memepool_common.testing.waiting import until

_PENDING = text("select count(*) from outbox where published_at is null")


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


class CountedBus:
    """A bus that knows how many copies of messages are still to be settled, on any adapter.

    Counts what goes through it; redelivered messages that are settled twice count twice.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._topology: Topology = {}
        self._unsettled: Counter[str] = Counter()

    async def declare(self, topology: Topology) -> None:
        """As the bus does."""
        self._topology = topology
        await self._bus.declare(topology)

    async def publish(self, messages: Sequence[Message]) -> Sequence[Exception | None]:
        """As the bus does."""
        outcomes = await self._bus.publish(messages)
        for message, error in zip(messages, outcomes, strict=True):
            if error is None:
                self._unsettled.update(
                    queue for queue, keys in self._topology.items() if message.routing_key in keys
                )
        return outcomes

    @contextlib.asynccontextmanager
    async def subscribe(self, queue: str) -> AsyncIterator[Inlet]:
        """As the bus does."""
        async with self._bus.subscribe(queue) as inlet:
            yield _CountedInlet(inlet, self._unsettled, queue)

    def unsettled(self, queue: str) -> int:
        """How many copies wait to be settled."""
        return self._unsettled[queue]

    async def drain(self, *outboxes: Database, timeout_s: float = 30.0) -> None:
        """Wait until no outbox holds unpublished events and every message has been settled."""

        async def drained() -> bool:
            return not await _pending(*outboxes) and max(self._unsettled.values(), default=0) <= 0

        await until(drained, timeout_s)


class _CountedInlet:
    def __init__(self, inlet: Inlet, unsettled: Counter[str], queue: str) -> None:
        self._inlet = inlet
        self._unsettled = unsettled
        self._queue = queue

    async def receive(self, size_max: int, timeout_s: float) -> Sequence[Delivery]:
        return await self._inlet.receive(size_max, timeout_s)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        await self._inlet.ack(deliveries)
        self._unsettled[self._queue] -= len(deliveries)

    async def retry(self, delivery: Delivery, delay_s: float) -> None:
        await self._inlet.retry(delivery, delay_s)

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        await self._inlet.dead_letter(delivery, reason)
        self._unsettled[self._queue] -= 1


async def _pending(*outboxes: Database) -> int:
    left = 0
    for database in outboxes:
        async with database.read() as session:
            left += (await session.execute(_PENDING)).scalar_one()
    return left
