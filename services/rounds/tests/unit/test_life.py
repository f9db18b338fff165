"""Rounds through random histories: blocks, reorganisations, votes, silence, late money."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from memepool_rounds.domain.rounds import (
    Fact,
    OpenRound,
    RoundState,
    Turn,
    advance,
    tally_is_due,
    turn_at,
    waited_on,
)

MINIMUM_AGE = timedelta(seconds=30)
TIMEOUT = timedelta(seconds=30)
GAP_MAX = timedelta(seconds=5)


@dataclass
class Life:
    """A round as the service would store it."""

    id: int
    opened_at: datetime
    passed_height: int
    state: RoundState = RoundState.OPEN
    closing_height: int | None = None
    votes: int = 0
    pending: int = 0
    waited: timedelta = timedelta(0)
    looked_at: datetime | None = None


class Histories(RuleBasedStateMachine):
    """Does what use_cases does with the pure functions, and nothing else decides."""

    @initialize()
    def start(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.tip = 100
        self.caught_up = True
        self.payments_up = True
        self.rounds: list[Life] = []
        self.poll()

    @property
    def open(self) -> Life:
        return self.rounds[-1]

    @rule(seconds=st.one_of(st.integers(0, 40), st.integers(3600, 9000)))
    def time_passes(self, seconds: int) -> None:
        """Also a restart: nothing of this is in memory."""
        self.now += timedelta(seconds=seconds)

    @rule(count=st.integers(1, 8))
    def blocks_arrive(self, count: int) -> None:
        self.tip += count
        self.poll()

    @rule(depth=st.integers(1, 9), longer=st.integers(-3, 3))
    def a_branch_replaces_another(self, depth: int, longer: int) -> None:
        """More work may be fewer blocks."""
        self.tip = max(self.tip - depth, 1) + max(depth + longer, 1)
        self.poll()

    @rule(count=st.integers(1, 8))
    def blocks_that_we_do_not_have_yet(self, count: int) -> None:
        self.caught_up = False
        before = [(each.id, each.state) for each in self.rounds]
        self.tip += count
        self.poll()
        assert [(each.id, each.state) for each in self.rounds] == before
        self.caught_up = True

    @rule(count=st.integers(1, 5))
    def votes_are_placed(self, count: int) -> None:
        self.open.votes += count
        self.open.pending += count

    @rule(up=st.booleans())
    def payments_goes_or_comes(self, up: bool) -> None:
        self.payments_up = up

    @rule()
    def payments_answers(self) -> None:
        if self.payments_up:
            for each in self.rounds:
                each.pending = 0

    @rule()
    def the_scheduler_looks(self) -> None:
        for each in self.rounds:
            if each.state is RoundState.CLOSING:
                each.waited = waited_on(
                    each.waited,
                    since_last=self.now - (each.looked_at or self.now),
                    gap_max=GAP_MAX,
                    consuming=True,
                )
                each.looked_at = self.now
                if tally_is_due(pending=each.pending > 0, waited=each.waited, timeout=TIMEOUT):
                    each.state = advance(each.state, Fact.TALLIED)
                    each.pending = 0

    @rule(number=st.integers(0, 20), fact=st.sampled_from([Fact.DISTRIBUTED, Fact.REFUNDED]))
    def payments_finishes(self, number: int, fact: Fact) -> None:
        closed = [each for each in self.rounds if each.state is RoundState.CLOSED]
        if closed:
            done = closed[number % len(closed)]
            done.state = advance(done.state, fact)
            assert advance(done.state, fact) is done.state

    @rule()
    def a_block_ends_an_old_round_with_all_its_votes(self) -> None:
        """However long it lasted: the next boundary closes it, a quiet while tallies it."""
        ending = self.open
        self.now += MINIMUM_AGE
        self.tip = max(self.tip, ending.id, ending.passed_height) + 1
        self.poll()
        assert self.open is not ending
        for _ in range(int(TIMEOUT.total_seconds()) + 1):
            self.the_scheduler_looks()
            self.now += timedelta(seconds=1)
        assert ending.state is RoundState.CLOSED

    def poll(self) -> None:
        for _ in range(2):  # polling again changes nothing
            current = self.rounds[-1] if self.rounds else None
            seen = None
            if current is not None:
                seen = OpenRound(
                    current.id, current.opened_at, current.passed_height, current.votes > 0
                )
            turn = turn_at(
                seen,
                tip_height=self.tip,
                caught_up=self.caught_up,
                now=self.now,
                minimum_age=MINIMUM_AGE,
            )
            if current is not None and turn is Turn.IGNORED:
                assert current.votes == 0
                assert self.now - current.opened_at < MINIMUM_AGE
                current.passed_height = self.tip
            if turn is Turn.BOUNDARY:
                if current is not None:
                    current.state = advance(current.state, Fact.BOUNDARY)
                    current.closing_height, current.looked_at = self.tip, self.now
                self.rounds.append(Life(self.tip, self.now, self.tip))

    @invariant()
    def one_round_is_open_and_they_follow_each_other(self) -> None:
        *ended, last = self.rounds
        assert last.state is RoundState.OPEN
        assert all(each.state is not RoundState.OPEN for each in ended)
        for each, following in zip(self.rounds, self.rounds[1:], strict=False):
            assert each.closing_height == following.id > each.id

    @invariant()
    def nothing_is_pending_in_a_tallied_round(self) -> None:
        for each in self.rounds:
            if each.state not in (RoundState.OPEN, RoundState.CLOSING):
                assert each.pending == 0


TestHistories = Histories.TestCase
