"""The critical pairs of transactions, in every order in which two of them can meet.

One is stopped before each of its statements in turn, while the other runs until it ends or waits
for a lock; `make soak` stops the other one everywhere, too. Whatever the order: money is moved
once, the invariants hold, and nobody deadlocks.
"""

import contextlib
import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from memepool_chain.network import REGTEST
from memepool_common.ids import uuid7
from memepool_payments import consumers
from memepool_payments.domain.errors import PaymentsError
from memepool_payments.store import ledger, members
from memepool_payments.store.holds import NewHold
from memepool_payments.use_cases import deposits, distribution, stakes
from memepool_payments.use_cases.holds import HoldClosedError, open_hold, post_hold, void_hold
from services.payments.tests.ballot import Ballot, event
from services.payments.tests.books import Books, transfer_journal
from services.payments.tests.stepping import ALL, Act, count_statements, meet
from services.payments.tests.test_deposits import SETTINGS as CHAIN
from services.payments.tests.test_deposits import Till
from services.payments.tests.test_distribution import close, closed

_rounds = itertools.count(900_000)


class Scene(NamedTuple):
    """Two acts, made anew for each order; `check` looks at what has become of it."""

    one: Act
    other: Act
    check: Callable[[], Awaitable[None]]


class Stage:
    """Makes scenes of one kind."""

    def __init__(self, books: Books) -> None:
        self.books = books

    async def scene(self) -> Scene:
        raise NotImplementedError


class OppositeTransfers(Stage):
    async def scene(self) -> Scene:
        alice, bob = await self.books.funded([100, 100])

        async def check() -> None:
            assert await self.books.available(alice) == 100 - 70 + 90
            assert await self.books.available(bob) == 100 + 70 - 90

        return Scene(_sending(alice, bob, 70), _sending(bob, alice, 90), check)


class SameKey(Stage):
    async def scene(self) -> Scene:
        alice, bob = await self.books.funded([100, 0])

        async def check() -> None:
            assert await self.books.available(bob) == 70

        return Scene(_sending(alice, bob, 70), _sending(alice, bob, 70), check)


class FreezeAndTransfer(Stage):
    async def scene(self) -> Scene:
        alice, bob = await self.books.funded([100, 0])
        async with self.books.database.transaction() as session:
            await members.remember(
                session,
                user_id=alice,
                wallet_address=str(alice),
                suspended=False,
                version=0,
                created_at=datetime.now(UTC),
            )

        async def freeze(session: Any) -> None:
            assert await members.freeze(session, alice, frozen=True)

        async def check() -> None:
            left = await self.books.available(alice)
            assert left in {30, 100}
            async with self.books.database.transaction() as session:
                journal = await transfer_journal(session, alice, bob, 1, "later")
                assert (await ledger.post(session, [journal]))[0].outcome == "account_frozen"

        return Scene(_sending(alice, bob, 70), freeze, check)


class _Voting(Stage):
    """Alice's stake is held; Bob's vote is the one that is under way."""

    async def prepare(self) -> None:
        self.ballot = Ballot(self.books, str(next(_rounds)))
        self.alice, self.bob = await self.books.funded([100, 100])
        self.meme = uuid7()
        self.vote = (uuid7(), self.bob, self.meme, 60)
        await self.ballot.place((uuid7(), self.alice, self.meme, 50))

    async def place(self, session: Any) -> None:
        placed = event(consumers.VOTE_PLACED, self.ballot.columns([self.vote]))
        await consumers.on_votes_placed(session, [placed])

    async def bob_has_all(self) -> None:
        assert await self.books.available(self.bob) == 100
        assert (await self.ballot.states()).get(self.vote[0], ("none", ""))[0] != "held"


class VoteAndClose(_Voting):
    async def scene(self) -> Scene:
        await self.prepare()
        lines = [(self.alice, 49, "place:1")]
        void = [str(self.vote[0])]
        data = closed(50, 1, lines, [], roundId=self.ballot.round_id, void=void)

        async def closing(session: Any) -> None:
            happened = [event(consumers.ROUND_CLOSED, data)]
            await consumers.on_round_closed(session, happened, fee_basis_points_max=200)

        async def check() -> None:
            await distribution.work(self.books.database)
            await self.bob_has_all()
            assert await self.books.available(self.alice) == 99
            query = "select state from payment_round where round_id = :id"
            assert await self.books.scalar(query, id=self.ballot.round_id) == "paid"

        return Scene(self.place, closing, check)


class VoteAndRejection(_Voting):
    async def scene(self) -> Scene:
        await self.prepare()

        async def reject(session: Any) -> None:
            rejected = event(consumers.VOTE_REJECTED, self.ballot.columns([self.vote]))
            await consumers.on_votes_rejected(session, [rejected])

        return Scene(self.place, reject, self.bob_has_all)


class VoteAndWithdrawal(_Voting):
    async def scene(self) -> Scene:
        await self.prepare()

        async def withdraw(session: Any) -> None:
            await stakes.withdraw_meme(session, self.ballot.round_id, self.meme)

        async def check() -> None:
            await stakes.refund_withdrawn(self.books.database)
            await self.bob_has_all()

        return Scene(self.place, withdraw, check)


class _Within:
    """A database whose transactions and statements are all in the one that is open."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def transaction(self) -> Any:
        return contextlib.nullcontext(self._session)

    statement = transaction


class TwoDistributors(Stage):
    """Whichever step of the round's payout is next, two processes do it at once."""

    steps_done = 0

    async def scene(self) -> Scene:
        ballot = Ballot(self.books, str(next(_rounds)))
        (alice,) = await self.books.funded([100])
        await ballot.place((uuid7(), alice, uuid7(), 100))
        await close(
            self.books, closed(100, 1, [(alice, 90, "place:1")], [], roundId=ballot.round_id)
        )
        database = self.books.database
        for _ in range(TwoDistributors.steps_done % 3):
            await distribution.step(database, ballot.round_id)
        TwoDistributors.steps_done += 1

        async def step(session: Any) -> None:
            await distribution.step(_Within(session), ballot.round_id)  # type: ignore[arg-type]  # a double

        async def check() -> None:
            await distribution.work(database)
            assert await self.books.available(alice) == 90
            told = (
                "select count(*) from outbox where subject = :id"
                " and event_type = 'memepool.payments.rewards.distributed.v1'"
            )
            assert await self.books.scalar(told, id=ballot.round_id) == 1

        return Scene(step, step, check)


class PostAndVoid(Stage):
    async def scene(self) -> Scene:
        (alice,) = await self.books.funded([100])
        hold_id = uuid7()
        async with self.books.database.transaction() as session:
            await open_hold(session, NewHold(hold_id, alice, "withdrawal", 80, None))
            fee = await ledger.platform_account(session, ledger.PLATFORM_FEE)

        async def post(session: Any) -> None:
            await post_hold(session, hold_id, [(fee, 75)])

        async def void(session: Any) -> None:
            await void_hold(session, hold_id)

        async def check() -> None:
            state = await self.books.scalar("select state from hold where id = :id", id=hold_id)
            assert await self.books.available(alice) == {"posted": 25, "voided": 100}[state]

        return Scene(post, void, check)


class DepositAndReorganisation(Stage):
    """A proof is believed while the block that it leads to loses its place in the chain."""

    till: Till | None = None

    async def scene(self) -> Scene:
        till = self.till = self.till or await Till(self.books).start()
        (alice,) = await self.books.funded([0])
        txid = till.chain.pay(await till.address(alice), 500)
        await deposits.scan(self.books.database, till.chain, CHAIN, amount_min=1)
        await till.tell(till.chain.mine(txid))
        proof = await till.chain.tsc_proof(txid)
        assert proof is not None
        till.chain.drop(1)
        branch = [till.chain.mine(), till.chain.mine()]

        async def credit(session: Any) -> None:
            await deposits.credit(session, txid, proof, 1)

        async def reorganise(session: Any) -> None:
            connected = [
                event(consumers.BLOCK_CONNECTED, {"header": block.header.serialize().hex()})
                for block in branch
            ]
            await consumers.on_block_connected(session, connected, network=REGTEST)

        async def check() -> None:
            await deposits.prove(self.books.database, till.chain, CHAIN)
            assert await self.books.available(alice) == 0
            query = "select state from deposit where txid = :txid"
            assert await self.books.scalar(query, txid=txid) == "pending"

        return Scene(credit, reorganise, check)


def _sending(sender: UUID, recipient: UUID, amount: int) -> Act:
    async def act(session: Any) -> None:
        journal = await transfer_journal(session, sender, recipient, amount, "k")
        await ledger.post(session, [journal])

    return act


STAGES = [
    OppositeTransfers,
    SameKey,
    FreezeAndTransfer,
    VoteAndClose,
    VoteAndRejection,
    VoteAndWithdrawal,
    TwoDistributors,
    PostAndVoid,
    DepositAndReorganisation,
]


async def _play(stage: Stage, stop_one: int, stop_other: int, *, swapped: bool) -> None:
    scene = await stage.scene()
    one, other = (scene.other, scene.one) if swapped else (scene.one, scene.other)
    for error in await meet(stage.books.database, one, other, stop_one, stop_other):
        if error is not None and not isinstance(error, PaymentsError | HoldClosedError):
            raise error
    await scene.check()
    deadlocks = "select deadlocks from pg_stat_database where datname = current_database()"
    assert await stage.books.scalar(deadlocks) == 0


async def _statements(stage: Stage) -> tuple[int, int]:
    """How often each act can be stopped, its commit among them."""
    first, second = await stage.scene(), await stage.scene()
    one = await count_statements(stage.books.database, first.one)
    return one, await count_statements(stage.books.database, second.other)


@pytest.mark.parametrize("make", STAGES)
async def test_wherever_one_is_stopped_the_other_finds_its_way(
    books: Books, make: type[Stage]
) -> None:
    stage = make(books)
    numbers = await _statements(stage)
    assert min(numbers) >= 2
    for swapped in (False, True):
        for stop in range(numbers[swapped]):
            await _play(stage, stop, ALL, swapped=swapped)


@pytest.mark.soak
@pytest.mark.parametrize("make", STAGES)
async def test_wherever_both_are_stopped_both_find_their_way(
    books: Books, make: type[Stage]
) -> None:
    stage = make(books)
    one, other = await _statements(stage)
    for stop_one, stop_other in itertools.product(range(one), range(other)):
        await _play(stage, stop_one, stop_other, swapped=False)
