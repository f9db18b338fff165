"""Where answers are kept for their short life, as a port: in memory, or in Redis for replicas."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, Protocol

BODY_BYTES_MAX = 256 * 1024
BYTES_MAX = 32 * 1024 * 1024
OVERHEAD_BYTES = 500

ClockS = Callable[[], float]


class Stored(NamedTuple):
    """An answer of status 200; the headers are those that cross the gateway."""

    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class CacheStore(Protocol):
    """Keeps answers by the target of their request. It may forget any of them at any time."""

    async def get(self, target: str) -> Stored | None:
        """The answer, if it is still alive."""
        ...

    async def put(self, target: str, answer: Stored, life_s: float) -> None:
        """Keep an answer for so long."""
        ...


class MemoryStore:
    """The store within one process. The oldest answers go first when it is full."""

    def __init__(self, now_s: ClockS = time.monotonic, bytes_max: int = BYTES_MAX) -> None:
        self._now_s = now_s
        self._bytes_max = bytes_max
        self._kept: OrderedDict[str, tuple[float, Stored]] = OrderedDict()
        self._bytes = 0

    async def get(self, target: str) -> Stored | None:
        """The answer, if it is still alive."""
        until_s, answer = self._kept.get(target, (0.0, None))
        return answer if self._now_s() < until_s else None

    async def put(self, target: str, answer: Stored, life_s: float) -> None:
        """Keep an answer for so long."""
        self._forget(target)
        self._kept[target] = (self._now_s() + life_s, answer)
        self._bytes += _size_bytes(answer)
        while self._bytes > self._bytes_max:
            self._forget(next(iter(self._kept)))

    def _forget(self, target: str) -> None:
        _, answer = self._kept.pop(target, (0.0, None))
        if answer is not None:
            self._bytes -= _size_bytes(answer)


def _size_bytes(answer: Stored) -> int:
    return len(answer.body) + OVERHEAD_BYTES
