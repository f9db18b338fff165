"""A bus that notes when a queue was last asked for more: its consumer is alive and consuming."""

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from memepool_common.events import Bus, Delivery, Inlet, Message
from memepool_common.events.bus import Topology

CONSUMING_WITHIN_S: Final = 3.0
"""A consumer asks again at least every second, unless it is stuck or paused."""


class WatchedBus:
    """Passes everything on; `consuming(queue)` tells whether this process consumes it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._asked_at_s: dict[str, float] = {}

    def consuming(self, queue: str) -> bool:
        """Whether the queue was read within the last seconds, without failure."""
        asked_at_s = self._asked_at_s.get(queue)
        return asked_at_s is not None and time.monotonic() - asked_at_s < CONSUMING_WITHIN_S

    async def declare(self, topology: Topology) -> None:
        """As the bus does."""
        await self._bus.declare(topology)

    async def publish(self, messages: Sequence[Message]) -> Sequence[Exception | None]:
        """As the bus does."""
        return await self._bus.publish(messages)

    @contextlib.asynccontextmanager
    async def subscribe(self, queue: str) -> AsyncIterator[Inlet]:
        """As the bus does, watched."""
        async with self._bus.subscribe(queue) as inlet:
            try:
                yield _WatchedInlet(inlet, self._asked_at_s, queue)
            finally:
                self._asked_at_s.pop(queue, None)


class _WatchedInlet:
    def __init__(self, inlet: Inlet, asked_at_s: dict[str, float], queue: str) -> None:
        self._inlet = inlet
        self._asked_at_s = asked_at_s
        self._queue = queue

    async def receive(self, size_max: int, timeout_s: float) -> Sequence[Delivery]:
        received = await self._inlet.receive(size_max, timeout_s)
        self._asked_at_s[self._queue] = time.monotonic()
        return received

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        await self._inlet.ack(deliveries)

    async def retry(self, delivery: Delivery, delay_s: float) -> None:
        await self._inlet.retry(delivery, delay_s)

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        await self._inlet.dead_letter(delivery, reason)
