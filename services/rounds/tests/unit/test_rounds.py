"""The life of a round, boundaries, finality and the bounded wait, as pure functions."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memepool_rounds.domain.errors import IllegalTransition
from memepool_rounds.domain.rounds import (
    Fact,
    OpenRound,
    RoundState,
    Turn,
    advance,
    finality_of,
    tally_is_due,
    turn_at,
    waited_on,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def turn(tip_height: int, current: OpenRound | None, *, caught_up: bool = True) -> Turn:
    return turn_at(current, tip_height=tip_height, caught_up=caught_up, now=NOW, minimum_age=MINUTE)


def opened(age: timedelta, *, votes: bool = False, passed: int = 100) -> OpenRound:
    return OpenRound(100, NOW - age, passed, votes)


def test_the_table_in_the_documentation_is_the_state_machine() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    lines = [line for line in readme.splitlines() if line.startswith("| ")]
    start = next(i for i, line in enumerate(lines) if line.startswith("| a round that is |"))
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start:]]
    assert head[1:] == [f"hears `{fact}`" for fact in Fact]
    documented = {
        (state, fact): row[i]
        for state, row in zip(RoundState, rows, strict=False)
        for i, fact in enumerate(Fact, start=1)
    }
    assert [row[0] for row in rows[: len(RoundState)]] == [f"`{state}`" for state in RoundState]
    for (state, fact), said in documented.items():
        if said == "refuses it":
            with pytest.raises(IllegalTransition):
                advance(state, fact)
        else:
            becomes = advance(state, fact)
            assert said == ("stays" if becomes is state else f"becomes `{becomes}`")


@given(st.lists(st.sampled_from(list(Fact)), max_size=20))
def test_repeated_and_reordered_facts_never_move_a_round_back(facts: list[Fact]) -> None:
    lives = [
        ["open", "closing", "closed", "settled"],
        ["open", "closing", "closed", "refunded"],
    ]
    seen = [RoundState.OPEN]
    for fact in facts:
        try:
            after = advance(seen[-1], fact)
        except IllegalTransition:
            continue
        if after is not seen[-1]:
            seen.append(after)
    assert any(life[: len(seen)] == seen for life in lives)


def test_without_any_round_one_opens_at_the_tip_once_caught_up() -> None:
    assert turn(100, None) is Turn.BOUNDARY
    assert turn(100, None, caught_up=False) is Turn.NONE


def test_only_a_higher_block_is_a_boundary() -> None:
    old = opened(timedelta(hours=1))
    assert turn(99, old) is Turn.NONE
    assert turn(100, old) is Turn.NONE
    assert turn(101, old) is Turn.BOUNDARY
    assert turn(107, old) is Turn.BOUNDARY
    assert turn(101, old, caught_up=False) is Turn.NONE


def test_a_young_round_ignores_a_block_only_while_nobody_has_voted() -> None:
    young = timedelta(seconds=59)
    assert turn(101, opened(young)) is Turn.IGNORED
    assert turn(101, opened(young, votes=True)) is Turn.BOUNDARY
    assert turn(101, opened(MINUTE)) is Turn.BOUNDARY


def test_a_block_once_ignored_stays_ignored() -> None:
    aged = opened(timedelta(hours=1), votes=True, passed=101)
    assert turn(101, aged) is Turn.NONE
    assert turn(102, aged) is Turn.BOUNDARY


def test_finality_counts_blocks_on_the_active_branch() -> None:
    def finality(tip_height: int, *, active: bool = True) -> str:
        return finality_of(closing_height=10, active=active, tip_height=tip_height, final_depth=6)

    assert [finality(height) for height in (10, 11, 14, 15, 40)] == [
        *("seen", "confirmed(2)", "confirmed(5)", "final", "final")
    ]
    assert finality(9, active=False) == "reorged"


def test_the_wait_counts_consuming_time_only_and_starts_again_after_downtime() -> None:
    gap_max = timedelta(seconds=5)
    waited = timedelta(0)
    for consuming, since_last, expected in [
        (True, 1, 1),
        (True, 2, 3),
        (False, 2, 3),
        (True, -1, 3),  # a clock set back
        (True, 3600, 0),
        (True, 1, 1),
    ]:
        since = timedelta(seconds=since_last)
        waited = waited_on(waited, since_last=since, gap_max=gap_max, consuming=consuming)
        assert waited == timedelta(seconds=expected)


def test_a_tally_is_due_when_nothing_is_pending_or_the_wait_is_over() -> None:
    timeout = timedelta(seconds=30)
    assert tally_is_due(pending=False, waited=timedelta(0), timeout=timeout)
    assert not tally_is_due(pending=True, waited=timedelta(seconds=29), timeout=timeout)
    assert tally_is_due(pending=True, waited=timeout, timeout=timeout)
