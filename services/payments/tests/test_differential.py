"""Batch against single: however a sequence is cut into batches, it ends as if posted one by one."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memepool_common.db import Database
from memepool_common.settings import DatabaseSettings
from memepool_payments.domain.journal import Movement, NewJournal, request_hash
from memepool_payments.store import ledger
from memepool_payments.store.ledger import Velocity
from services.payments.tests.books import Books

USERS = 4
KINDS = ("transfer", "stake", "fee")
LIMITS = Velocity(sent_max=90, sends_max=6)
user = st.integers(0, USERS - 1)
amount = st.sampled_from([1, 5, 20, 50, 80])


class Wanted(NamedTuple):
    """A journal whose users are numbers: it is posted in two worlds."""

    kind: str
    key: int
    moves: tuple[tuple[int, int, int], ...]


moves = st.tuples(user, user, amount).filter(lambda move: move[0] != move[1])
wanted = st.builds(
    Wanted,
    st.sampled_from(KINDS),
    st.integers(0, 30),
    st.lists(moves, min_size=1, max_size=3).map(tuple),
)


class World(NamedTuple):
    """Users of one's own, and what has become of what they wanted."""

    users: list[UUID]
    outcomes: list[str]


async def _post(books: Books, world: World, batch: Sequence[Wanted]) -> None:
    async with books.database.transaction() as session:
        accounts = await ledger.accounts_of(session, world.users)
        ids = [accounts[each] for each in world.users]
        journals = [
            NewJournal(
                f"user:{world.users[each.moves[0][0]]}",
                str(each.key),
                request_hash(each.moves),
                each.kind,
                [Movement(ids[source], ids[target], moved) for source, target, moved in each.moves],
            )
            for each in batch
        ]
        postings = await ledger.post(session, journals, LIMITS)
    world.outcomes.extend(f"{each.outcome} {each.replayed}" for each in postings)


async def _make(books: Books, money: Sequence[int], frozen: set[int]) -> World:
    world = World(await books.funded(money), [])
    async with books.database.transaction() as session:
        for number in frozen:
            await ledger.set_frozen(session, world.users[number], frozen=True)
    return world


async def _statement(books: Books, world: World) -> list[list[tuple[object, ...]]]:
    """Each user's balance, what they have sent, and every entry with the balance after it."""
    rows = (
        "select e.line, e.amount, e.balance_after, b.posted, b.sent, b.sends from entry e"
        " join account a on a.id = e.account_id join balance b on b.account_id = a.id"
        " where a.owner_id = :owner order by e.journal_id, e.line"
    )
    return [await books.rows(rows, owner=owner) for owner in world.users]


def test_batches_and_single_postings_end_alike(
    database_settings_for: Callable[..., DatabaseSettings],
) -> None:
    with asyncio.Runner() as runner:

        async def open_books() -> Books:
            return Books(Database.connect(database_settings_for("payments")))

        books = runner.run(open_books())

        async def compare(
            money: list[int], frozen: set[int], sequence: list[Wanted], cuts: set[int]
        ) -> None:
            together = await _make(books, money, frozen)
            alone = await _make(books, money, frozen)
            edges = [0, *sorted(cut for cut in cuts if cut < len(sequence)), len(sequence)]
            for start, end in itertools.pairwise(edges):
                await _post(books, together, sequence[start:end])
            for each in sequence:
                await _post(books, alone, [each])
            assert together.outcomes == alone.outcomes
            assert await _statement(books, together) == await _statement(books, alone)

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            st.lists(st.integers(0, 120), min_size=USERS, max_size=USERS),
            st.sets(user, max_size=1),
            st.lists(wanted, min_size=1, max_size=25),
            st.sets(st.integers(1, 24), max_size=4),
        )
        def check(
            money: list[int], frozen: set[int], sequence: list[Wanted], cuts: set[int]
        ) -> None:
            runner.run(compare(money, frozen, sequence, cuts))

        check()
        runner.run(books.check())
        runner.run(books.database.close())
