"""How many votes may wait for their stakes: what is still pending at a round's end is named in
RoundClosed one by one, and an event has a largest size."""

import time
from typing import Final

from memepool_common.db import Session, Statement
from memepool_common.web.problem import Problem
from memepool_rounds.store import votes

WAITING_MAX: Final = 100_000
LOOK_INTERVAL_S: Final = 1.0


class Backlog:
    """Looks once a second: the way of a vote is hot, and a second's votes are few."""

    def __init__(self, waiting_max: int = WAITING_MAX) -> None:
        self._waiting_max = waiting_max
        self._next_look_s = 0.0
        self._full = False

    async def refusal(self, session: Session | Statement) -> Problem | None:
        """Why no more votes are taken, while payments is that far behind."""
        if time.monotonic() >= self._next_look_s:
            self._next_look_s = time.monotonic() + LOOK_INTERVAL_S
            self._full = await votes.many_wait(session, self._waiting_max)
        if not self._full:
            return None
        detail = "Too many votes wait for payments; try again."
        return Problem(503, "overloaded", detail, headers={"Retry-After": "5"})
