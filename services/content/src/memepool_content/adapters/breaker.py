"""A circuit breaker: who keeps failing is left alone for a while, then tried once."""

import time
from collections.abc import Callable


class Breaker:
    """Open after `failures_max` failures in a row; after `open_s` seconds one call may try."""

    def __init__(
        self, failures_max: int, open_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._failures_max = failures_max
        self._open_s = open_s
        self._clock = clock
        self._failures = 0
        self._try_at = 0.0

    def allows(self) -> bool:
        """Whether a call may be made now."""
        return self._failures < self._failures_max or self._clock() >= self._try_at

    def calling(self) -> None:
        """A call that was allowed is made: while open it is the trial, and there is but one."""
        self._try_at = self._clock() + self._open_s

    def succeeded(self) -> None:
        """A call was answered, whatever the answer said."""
        self._failures = 0

    def failed(self) -> None:
        """A call was not answered."""
        self._failures += 1
        if self._failures >= self._failures_max:
            self._try_at = self._clock() + self._open_s
