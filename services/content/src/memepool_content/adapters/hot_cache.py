"""What many ask for at once is read once a second, and kept no longer than that."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class HotCache(Generic[Key, Value]):
    """Values that are a moment old at most. Nothing is invalidated: they are forgotten in time.

    Whoever asks while a value is being read waits for that reading. The values together weigh at
    most `weight_max`; the oldest go first.
    """

    def __init__(
        self,
        read: Callable[[Key], Awaitable[Value]],
        weigh: Callable[[Value], int],
        *,
        lifetime_s: float,
        weight_max: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._weigh = weigh
        self._lifetime_s = lifetime_s
        self._weight_max = weight_max
        self._clock = clock
        self._weight = 0
        self._kept: dict[Key, tuple[float, Value, int]] = {}
        self._reading: dict[Key, asyncio.Task[Value]] = {}

    def peek(self, key: Key) -> Value | None:
        """The value, if it has been read no longer than `lifetime_s` ago."""
        found = self._kept.get(key)
        return found[1] if found is not None and found[0] > self._clock() else None

    async def get(self, key: Key) -> Value:
        """The value, read no longer than `lifetime_s` ago; what reading raises."""
        found = self._kept.get(key)
        if found is not None and found[0] > self._clock():
            return found[1]
        task = self._reading.get(key)
        if task is None:
            task = asyncio.create_task(self._renew(key))
            self._reading[key] = task
        return await asyncio.shield(task)  # who goes away leaves the reading to the others

    async def _renew(self, key: Key) -> Value:
        expires_at = self._clock() + self._lifetime_s  # of what is true before the reading
        try:
            value = await self._read(key)
        finally:
            del self._reading[key]
        self._forget(key)
        weight = self._weigh(value)
        self._kept[key] = expires_at, value, weight
        self._weight += weight
        self._make_room()
        return value

    def _make_room(self) -> None:
        """In the order in which they were read, what is too old and what is too much."""
        now = self._clock()
        for key, (expires_at, _, _) in list(self._kept.items()):
            if expires_at > now and self._weight <= self._weight_max:
                return
            self._forget(key)

    def _forget(self, key: Key) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self._weight -= found[2]
