"""The life of a round, open to settled or refunded; when a block ends it; how sure that is."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from memepool_rounds.domain.errors import IllegalTransition


class RoundState(StrEnum):
    """Where a round is in its life."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
    SETTLED = "settled"
    REFUNDED = "refunded"


class Fact(StrEnum):
    """What moves a round on."""

    BOUNDARY = "boundary"  # a block ended it
    TALLIED = "tallied"  # its votes and rewards are final
    DISTRIBUTED = "distributed"  # its rewards are in the ledger
    REFUNDED = "refunded"  # an admin had all its stakes given back instead


class Turn(StrEnum):
    """What a tip means for the open round."""

    NONE = "none"
    IGNORED = "ignored"  # a boundary, but the round is too young and nobody has voted
    BOUNDARY = "boundary"


_TARGETS: Final = {
    Fact.BOUNDARY: RoundState.CLOSING,
    Fact.TALLIED: RoundState.CLOSED,
    Fact.DISTRIBUTED: RoundState.SETTLED,
    Fact.REFUNDED: RoundState.REFUNDED,
}
_BEFORE: Final = {
    RoundState.CLOSING: RoundState.OPEN,
    RoundState.CLOSED: RoundState.CLOSING,
    RoundState.SETTLED: RoundState.CLOSED,
    RoundState.REFUNDED: RoundState.CLOSED,
}


@dataclass(frozen=True, slots=True)
class OpenRound:
    """What decides whether a block ends the open round.

    `passed_height` is the highest block that it has ignored so far, or its own.
    """

    id: int
    opened_at: datetime
    passed_height: int
    has_votes: bool


def advance(state: RoundState, fact: Fact) -> RoundState:
    """The state after a fact; one that is heard again, or late, changes nothing. The table of all
    cases is in the README.

    Raises:
        IllegalTransition: a state would be left out, so the fact cannot be true yet; or the round
            has ended in the other way.
    """
    target = _TARGETS[fact]
    if state is _BEFORE[target]:
        return target
    reached: RoundState | None = state
    while reached is not None:
        if reached is target:
            return state
        reached = _BEFORE.get(reached)
    raise IllegalTransition(f"a round that is {state} cannot be {fact}")


def turn_at(
    current: OpenRound | None,
    *,
    tip_height: int,
    caught_up: bool,
    now: datetime,
    minimum_age: timedelta,
) -> Turn:
    """What the active tip means. Without any round, one opens at the tip.

    A block is a boundary once: what a young round has ignored stays ignored.
    """
    if not caught_up:
        return Turn.NONE
    if current is None:
        return Turn.BOUNDARY
    if tip_height <= max(current.id, current.passed_height):
        return Turn.NONE
    if now - current.opened_at < minimum_age and not current.has_votes:
        return Turn.IGNORED
    return Turn.BOUNDARY


def finality_of(*, closing_height: int, active: bool, tip_height: int, final_depth: int) -> str:
    """How sure a closing block is: `seen` as the tip, `confirmed(k)` as one of k blocks, `final`
    at the final depth, `reorged` off the active branch."""
    if not active:
        return "reorged"
    depth = tip_height - closing_height + 1
    if depth >= final_depth:
        return "final"
    return f"confirmed({depth})" if depth > 1 else "seen"


def tally_is_due(*, pending: bool, waited: timedelta, timeout: timedelta) -> bool:
    """A closing round is tallied once no vote waits for its stake, or has waited long enough.

    `waited` counts only time in which the answers of payments were being consumed.
    """
    return not pending or waited >= timeout


def waited_on(
    waited: timedelta, *, since_last: timedelta, gap_max: timedelta, consuming: bool
) -> timedelta:
    """Time waited after another look. A long gap between looks was downtime: start again."""
    if since_last > gap_max:
        return timedelta(0)
    return waited + max(since_last, timedelta(0)) if consuming else waited
