"""A hundred lines of model against the real ledger: whatever is done in whatever order.

One database serves all examples; each has users and rounds of its own.
"""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from memepool_common.db import Database
from memepool_common.ids import uuid7
from memepool_common.settings import DatabaseSettings
from memepool_payments.store import ledger
from memepool_payments.use_cases import distribution, sealing, stakes
from services.payments.tests.ballot import Ballot
from services.payments.tests.books import Books, transfer_journal
from services.payments.tests.test_distribution import close, closed

USERS = 4
MEMES = 2
who = st.integers(0, USERS - 1)
which = st.integers(0, MEMES - 1)
amounts = st.integers(1, 120)
Vote = tuple[UUID, UUID, UUID, int]
rounds = itertools.count(900_000)
BALANCES = (
    "select a.owner_id, b.posted from balance b join account a on a.id = b.account_id"
    " where a.kind = 'user_available' and a.owner_id = any(:users)"
)


class LedgerMachine(RuleBasedStateMachine):
    """Users, transfers, and one round after the other."""

    books: Books
    runner: asyncio.Runner

    def do(self, act: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(act)

    @initialize(money=st.lists(st.integers(0, 300), min_size=USERS, max_size=USERS))
    def begin(self, money: list[int]) -> None:
        self.users = self.do(self.books.funded(money))
        self.balances = dict(zip(self.users, money, strict=True))
        self.carry: dict[str, int] = {}
        self.asked: list[tuple[int, int, int, str, str]] = []
        self.open_round()

    def open_round(self) -> None:
        self.round_id = str(next(rounds))
        self.ballot = Ballot(self.books, self.round_id)
        self.memes = [uuid7() for _ in range(MEMES)]
        self.gone: set[UUID] = set()
        self.held: dict[UUID, Vote] = {}
        self.votes: dict[UUID, Vote] = {}
        self.void: set[UUID] = set()

    @rule(sender=who, recipient=who, amount=amounts)
    def transfer(self, sender: int, recipient: int, amount: int) -> None:
        if sender == recipient:
            return
        key = f"{self.round_id}-{len(self.asked)}"
        outcome = self.do(self._post(sender, recipient, amount, key))
        funded = self.balances[self.users[sender]] >= amount
        assert outcome == ("posted" if funded else "insufficient_funds")
        if funded:
            self.balances[self.users[sender]] -= amount
            self.balances[self.users[recipient]] += amount
        self.asked.append((sender, recipient, amount, key, outcome))

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), more=st.integers(0, 1))
    def repeat_a_transfer(self, data: st.DataObject, more: int) -> None:
        sender, recipient, amount, key, first = data.draw(st.sampled_from(self.asked))
        again = self.do(self._post(sender, recipient, amount + more, key))
        assert again == ("key_reused" if more else first)

    async def _post(self, sender: int, recipient: int, amount: int, key: str) -> str:
        async with self.books.database.transaction() as session:
            parties = (self.users[sender], self.users[recipient])
            journal = await transfer_journal(session, *parties, amount, key)
            (posting,) = await ledger.post(session, [journal])
            return posting.outcome

    @rule(wanted=st.lists(st.tuples(who, which, amounts), min_size=1, max_size=6))
    def vote(self, wanted: list[tuple[int, int, int]]) -> None:
        batch = [(uuid7(), self.users[u], self.memes[m], a) for u, m, a in wanted]
        self.do(self.ballot.place(*batch))
        for each in batch:
            self.votes[each[0]] = each
            self._hold(each)

    def _hold(self, vote: Vote) -> None:
        vote_id, voter, meme, amount = vote
        if meme not in self.gone and self.balances[voter] >= amount:
            self.balances[voter] -= amount
            self.held[vote_id] = vote

    @precondition(lambda self: self.votes)
    @rule(data=st.data())
    def place_again(self, data: st.DataObject) -> None:
        vote_id = data.draw(st.sampled_from(list(self.votes)))
        self.do(self.ballot.place(self.votes[vote_id]))

    @precondition(lambda self: self.votes)
    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        vote_id = data.draw(st.sampled_from(list(self.votes)))
        self.do(self.ballot.reject(self.votes[vote_id]))
        self._give_back(vote_id)

    @rule(user=who, meme=which, amount=amounts)
    def reject_before_placed(self, user: int, meme: int, amount: int) -> None:
        vote = (uuid7(), self.users[user], self.memes[meme], amount)
        self.do(self.ballot.reject(vote))
        self.votes[vote[0]] = vote  # placing it later must do nothing

    def _give_back(self, vote_id: UUID) -> None:
        vote = self.held.pop(vote_id, None)
        if vote is not None:
            self.balances[vote[1]] += vote[3]

    @rule(meme=which)
    def withdraw(self, meme: int) -> None:
        self.do(self.ballot.withdraw(self.memes[meme]))
        self.do(stakes.refund_withdrawn(self.books.database))
        self.gone.add(self.memes[meme])
        for vote in list(self.held.values()):
            if vote[2] == self.memes[meme]:
                self._give_back(vote[0])

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def the_tally_calls_it_void(self, data: st.DataObject) -> None:
        self.void.add(data.draw(st.sampled_from(list(self.held))))

    @rule(twice=st.booleans(), take_carry=st.booleans())
    def close(self, twice: bool, take_carry: bool) -> None:
        for vote_id in self.void:
            self._give_back(vote_id)
        backers = list({vote[1]: None for vote in self.held.values()})
        staked = sum(vote[3] for vote in self.held.values())
        taken = dict(self.carry) if take_carry and self.held else {}
        carry_in = sum(taken.values())
        share = (staked + carry_in) * 9_000 // 10_000 // max(1, len(backers))
        lines = [(backer, share, "backers:1-5") for backer in backers if share]
        tally = closed(
            staked,
            len(self.held),
            lines,
            [],
            roundId=self.round_id,
            carryIn=carry_in,
            carrySources=[{"roundId": r, "amount": a} for r, a in taken.items()],
            void=[str(vote_id) for vote_id in self.void],
            withdrawn=[str(meme) for meme in self.gone],
        )
        for _ in range(1 + twice):
            self.do(close(self.books, tally))
        self.do(distribution.work(self.books.database))
        for backer, amount, _ in lines:
            self.balances[backer] += amount
        self.carry = {r: a for r, a in self.carry.items() if r not in taken}
        if tally["carryOut"]:
            self.carry[self.round_id] = tally["carryOut"]
        self.open_round()

    @rule()
    def seal(self) -> None:
        self.do(sealing.seal(self.books.database))

    @invariant()
    def every_balance_is_the_models(self) -> None:
        rows = self.do(self.books.rows(BALANCES, users=self.users))
        assert dict(rows) == self.balances

    def teardown(self) -> None:
        self.do(self.books.check())
        assert self.do(sealing.verify(self.books.database)).problem is None


def test_the_ledger_does_what_the_model_says(
    database_settings_for: Callable[..., DatabaseSettings],
) -> None:
    with asyncio.Runner() as runner:

        async def open_books() -> Books:
            return Books(Database.connect(database_settings_for("payments")))

        LedgerMachine.runner = runner
        LedgerMachine.books = runner.run(open_books())
        run_state_machine_as_test(
            LedgerMachine,
            settings=settings(
                max_examples=30,
                stateful_step_count=25,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        runner.run(LedgerMachine.books.database.close())
