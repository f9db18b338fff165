"""Posting: against a model that posts one by one, and under concurrency."""

import asyncio
import random
from collections.abc import Sequence
from uuid import UUID

import pytest
from psycopg.errors import CheckViolation
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from memepool_payments.domain.journal import Movement, NewJournal, Posting, request_hash
from memepool_payments.events import TRANSFER_POSTED
from memepool_payments.store import ledger
from memepool_payments.use_cases.posting import Poster
from services.payments.tests.books import NO_LIMITS, Books, new_transfer, transfer_journal

Wanted = tuple[UUID, UUID, int, str]


async def post(books: Books, wanted: Sequence[Wanted]) -> list[Posting]:
    async with books.database.transaction() as session:
        journals = [await transfer_journal(session, *each) for each in wanted]
        return await ledger.post(session, journals)


async def test_a_transfer_moves_money_and_leaves_the_balance_after(books: Books) -> None:
    alice, bob = await books.funded([100, 0])
    (posting,) = await post(books, [(alice, bob, 30, "a")])
    assert (posting.outcome, posting.replayed) == ("posted", False)
    assert (await books.available(alice), await books.available(bob)) == (70, 30)
    entries = "select amount, balance_after from entry where journal_id = :id order by amount"
    assert await books.rows(entries, id=posting.journal_id) == [(-30, 70), (30, 30)]


async def test_a_key_is_answered_once_whatever_the_answer_was(books: Books) -> None:
    alice, bob = await books.funded([100, 0])
    paid = (alice, bob, 60, "paid")
    refused = (alice, bob, 200, "refused")
    first = await post(books, [paid, refused])
    await post(books, [(bob, alice, 50, "back")])
    await books.funded([1])
    again = await post(books, [paid, refused, (alice, bob, 61, "paid")])
    assert [each.outcome for each in first] == ["posted", "insufficient_funds"]
    assert [each.outcome for each in again] == ["posted", "insufficient_funds", "key_reused"]
    assert [each.replayed for each in again] == [True, True, True]
    assert again[0].journal_id == first[0].journal_id
    assert await books.available(alice) == 90


async def test_the_same_key_twice_in_one_batch_posts_once(books: Books) -> None:
    alice, bob = await books.funded([100, 0])
    first, second, other = await post(
        books, [(alice, bob, 60, "k"), (alice, bob, 60, "k"), (alice, bob, 5, "k")]
    )
    assert (first.outcome, first.replayed) == ("posted", False)
    assert (second.outcome, second.replayed) == ("posted", True)
    assert other.outcome == "key_reused"
    assert await books.available(bob) == 60


async def test_the_keys_of_one_user_are_no_business_of_another(books: Books) -> None:
    alice, bob = await books.funded([100, 100])
    postings = await post(books, [(alice, bob, 1, "same"), (bob, alice, 2, "same")])
    assert [each.outcome for each in postings] == ["posted", "posted"]


async def test_what_a_batch_cannot_prove_is_decided_exactly_and_in_order(books: Books) -> None:
    alice, bob, carol = await books.funded([100, 0, 0])
    wanted: list[Wanted] = [
        (alice, bob, 70, "1"),
        (alice, carol, 70, "2"),  # unfunded
        (alice, bob, 30, "3"),  # funded, as 2 takes nothing
        (bob, carol, 100, "4"),  # funded only by what the batch itself brings
        (carol, alice, 101, "5"),  # one too many
        (alice, bob, 1, "6"),  # nothing is left
    ]
    outcomes = [each.outcome for each in await post(books, wanted)]
    no = "insufficient_funds"
    assert outcomes == ["posted", no, "posted", "posted", no, no]


async def test_one_bad_movement_refuses_the_whole_journal(books: Books) -> None:
    alice, bob, carol = await books.funded([10, 10, 0])
    async with books.database.transaction() as session:
        accounts = await ledger.accounts_of(session, [alice, bob, carol])
        movements = [
            Movement(accounts[alice], accounts[carol], 10),
            Movement(accounts[bob], accounts[carol], 11),
        ]
        journal = NewJournal("test", "both", request_hash(), "transfer", movements)
        (posting,) = await ledger.post(session, [journal])
    assert posting.outcome == "insufficient_funds"
    assert await books.available(alice) == 10


IMPOSSIBLE = """
select * from post_journals(
  j_scope := array['x'], j_key := array['x'], j_hash := array['x'::bytea],
  j_kind := array['transfer'], j_round := null, j_sender := null, j_recipient := null,
  j_memo := null, j_txid := null, j_lines := array[1], m_source := array[:source]::bigint[],
  m_target := array[:target]::bigint[], m_amount := array[:amount]::bigint[], m_note := null)
"""


@pytest.mark.parametrize(("source", "target", "amount"), [(0, 1, -5), (0, 1, 0), (0, 0, 5)])
async def test_the_database_refuses_a_movement_that_is_none(
    books: Books, source: int, target: int, amount: int
) -> None:
    users = await books.funded([100, 100])
    async with books.database.transaction() as session:
        accounts = await ledger.accounts_of(session, users)
    ends = {"source": accounts[users[source]], "target": accounts[users[target]]}
    with pytest.raises(DBAPIError) as refused:
        async with books.database.transaction() as session:
            await session.execute(text(IMPOSSIBLE), ends | {"amount": amount})
    assert getattr(refused.value.orig, "sqlstate", None) == "23514"
    assert await books.available(users[0]) == 100


def replay(opening: dict[UUID, int], wanted: Sequence[Wanted]) -> list[str]:
    """The model: one after the other, nothing below zero."""
    balances = dict(opening)
    outcomes = []
    for sender, recipient, amount, _ in wanted:
        funded = balances[sender] >= amount
        outcomes.append("posted" if funded else "insufficient_funds")
        if funded:
            balances[sender] -= amount
            balances[recipient] += amount
    return outcomes


@pytest.mark.parametrize("seed", range(12))
async def test_a_batch_equals_posting_one_by_one_in_the_order_of_its_journals(
    books: Books, seed: int
) -> None:
    rng = random.Random(seed)
    amounts = [rng.choice([0, 1, 50, 500]) for _ in range(rng.randint(2, 6))]
    users = await books.funded(amounts)
    opening = dict(zip(users, amounts, strict=True))
    taken: list[tuple[int, Wanted, str]] = []
    for batch in range(4):
        wanted: list[Wanted] = []
        for number in range(rng.randint(1, 60)):
            sender, recipient = rng.sample(users, 2)
            key = f"{batch}-{number}" if rng.random() < 0.9 else f"{batch}-{number // 2}"
            wanted.append((sender, recipient, rng.choice([1, 7, 49, 50, 51, 300]), key))
        postings = await post(books, wanted)
        for each, posting in zip(wanted, postings, strict=True):
            if not posting.replayed:
                taken.append((posting.journal_id, each, posting.outcome))
    taken.sort()
    assert [outcome for _, _, outcome in taken] == replay(opening, [each for _, each, _ in taken])
    await books.check()


async def test_many_posters_neither_deadlock_nor_overdraw_nor_post_a_key_twice(
    books: Books,
) -> None:
    users = await books.funded([100] * 12)
    posters = [Poster(books.database, NO_LIMITS) for _ in range(4)]  # as four processes would
    rng = random.Random(7)

    async def shop(number: int) -> None:
        for step in range(12):
            sender, recipient = rng.sample(users, 2)
            key = f"{number % 10}-{step}"  # others use the same keys with other requests
            wanted = await new_transfer(books, sender, recipient, rng.randint(1, 60), key)
            posting = await rng.choice(posters).post(wanted)
            assert posting.outcome in {"posted", "insufficient_funds", "key_reused"}

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(shop(number))
    available = "select sum(posted) from balance b join account a on a.id = b.account_id"
    assert await books.scalar(available) == 1200
    deadlocks = "select deadlocks from pg_stat_database where datname = current_database()"
    assert await books.scalar(deadlocks) == 0


async def test_a_caller_that_goes_away_cancels_nothing(books: Books) -> None:
    alice, bob = await books.funded([100, 0])
    poster = Poster(books.database, NO_LIMITS)
    wanted = await new_transfer(books, alice, bob, 40, "gone")
    caller = asyncio.create_task(poster.post(wanted))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    await poster.drain()
    assert await books.available(bob) == 40
    assert (await poster.post(wanted)).replayed


async def test_a_poisoned_item_does_not_sink_its_batch(books: Books) -> None:
    alice, bob = await books.funded([100, 0])
    poster = Poster(books.database, NO_LIMITS)
    wanted = [await new_transfer(books, alice, bob, 1, f"good{n}") for n in range(9)]
    wanted.insert(4, await new_transfer(books, alice, bob, 0, "no movement has this amount"))
    results = await asyncio.gather(*map(poster.post, wanted), return_exceptions=True)
    assert [type(each) for each in results].count(CheckViolation) == 1
    assert await books.available(bob) == 9


async def test_a_repetition_in_a_batch_is_told_what_has_become_of_the_first(books: Books) -> None:
    alice, bob = await books.funded([100, 0])
    poster = Poster(books.database, NO_LIMITS)
    first = await new_transfer(books, alice, bob, 60, "k")
    poor = await new_transfer(books, alice, bob, 50, "poor")
    batch = [first, poor, first, first._replace(request_hash=b"other"), poor]
    postings = await asyncio.gather(*map(poster.post, batch))
    assert [(each.outcome, each.replayed) for each in postings] == [
        ("posted", False),
        ("insufficient_funds", False),
        ("posted", True),
        ("key_reused", True),
        ("insufficient_funds", True),
    ]
    assert len({each.journal_id for each in postings}) == 2
    assert len(await books.announced(TRANSFER_POSTED)) == 1


async def test_a_frozen_account_gives_nothing_and_takes_all(books: Books) -> None:
    alice, bob = await books.funded([100, 100])
    async with books.database.transaction() as session:
        await ledger.set_frozen(session, alice, frozen=True)
    out, into = await post(books, [(alice, bob, 1, "out"), (bob, alice, 1, "in")])
    assert (out.outcome, into.outcome) == ("account_frozen", "posted")
