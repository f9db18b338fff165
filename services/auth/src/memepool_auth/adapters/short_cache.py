"""A value that is read anew when it is older than a moment, by one reader for all who ask."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ShortCache(Generic[Value]):
    """Single flight: whoever comes while the value is being read waits for that reading."""

    def __init__(self, read: Callable[[], Awaitable[Value]], lifetime_s: float) -> None:
        self._read = read
        self._lifetime_s = lifetime_s
        self._lock = asyncio.Lock()
        self._value: Value | None = None
        self._read_at_s = float("-inf")

    async def get(self) -> Value:
        """The value, read no longer than `lifetime_s` ago; what reading raises."""
        async with self._lock:
            if self._value is None or time.monotonic() - self._read_at_s > self._lifetime_s:
                started_s = time.monotonic()
                self._value = await self._read()
                self._read_at_s = started_s
            return self._value
