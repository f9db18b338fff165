"""Counts calls in a sliding window, as a port: one in memory, one that replicas share in Redis.

The window slides by the usual estimate: the calls of the current fixed window, and of those of the
one before as many as still lie within the window's length, taken as spread evenly.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

KEYS_MAX = 100_000

ClockMs = Callable[[], int]


def wall_clock_ms() -> int:
    """Unix time, which all replicas share."""
    return time.time_ns() // 1_000_000


class Check(NamedTuple):
    """One call to be counted: whose, and how many there may be in a window."""

    key: str
    quota: int
    window_ms: int


class Standing(NamedTuple):
    """How it stands after a call. `reset_s`: when there is room again, or the window turns."""

    allowed: bool
    remaining: int
    reset_s: int


class RateCounter(Protocol):
    """Counts calls."""

    async def hit(self, checks: Sequence[Check]) -> Sequence[Standing]:
        """Count a call under each key that has room for it; a refused call is not counted."""
        ...


class Window(NamedTuple):
    """What is kept of a key: the number of a fixed window, its calls, and those of the last one."""

    number: int
    calls: int
    before: int

    def at(self, now_ms: int, window_ms: int) -> "Window":
        """The same, moved on to now. A clock that is behind counts into the newest window."""
        number = max(self.number, now_ms // window_ms)
        if number == self.number:
            return self
        return Window(number, 0, self.calls if number == self.number + 1 else 0)

    def used(self, now_ms: int, window_ms: int) -> float:
        """The estimate of the calls in the sliding window."""
        left_ms = min(window_ms, (self.number + 1) * window_ms - now_ms)
        return self.before * left_ms / window_ms + self.calls


EMPTY = Window(0, 0, 0)


class MemoryCounter:
    """The counter within one process. Of too many keys it forgets those that were quiet longest."""

    def __init__(self, now_ms: ClockMs = wall_clock_ms, keys_max: int = KEYS_MAX) -> None:
        self._now_ms = now_ms
        self._keys_max = keys_max
        self._windows: OrderedDict[str, Window] = OrderedDict()

    async def hit(self, checks: Sequence[Check]) -> Sequence[Standing]:
        """Count a call."""
        now_ms = self._now_ms()
        return [self._count(check, now_ms) for check in checks]

    def _count(self, check: Check, now_ms: int) -> Standing:
        window = self._windows.get(check.key, EMPTY).at(now_ms, check.window_ms)
        allowed = window.used(now_ms, check.window_ms) + 1 <= check.quota
        if allowed:
            window = window._replace(calls=window.calls + 1)
            self._windows[check.key] = window
            self._windows.move_to_end(check.key)
            if len(self._windows) > self._keys_max:
                self._windows.popitem(last=False)
        return standing_of(check, window, now_ms, allowed=allowed)


def standing_of(check: Check, window: Window, now_ms: int, *, allowed: bool) -> Standing:
    """What is left after a call, and for how long."""
    quota, length_ms = check.quota, check.window_ms
    until_turn_ms = min(length_ms, (window.number + 1) * length_ms - now_ms)
    wait_ms = float(until_turn_ms)
    if not allowed:
        if window.calls + 1 <= quota:  # room comes within this window, as the last one fades
            wait_ms = until_turn_ms - length_ms * (quota - 1 - window.calls) / window.before
        else:
            wait_ms += length_ms * (1 - (quota - 1) / window.calls)
    remaining = math.floor(quota - window.used(now_ms, length_ms))
    return Standing(allowed, max(0, remaining), max(1, math.ceil(wait_ms / 1_000)))
