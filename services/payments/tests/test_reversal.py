"""Corrections: once, by a new journal, whatever has become of the money."""

import asyncio
from uuid import UUID

import pytest

from memepool_payments.domain.journal import Posting
from memepool_payments.use_cases.reversal import NotReversibleError, reverse
from services.payments.tests.books import Books
from services.payments.tests.site import Site


async def _reverse(books: Books, journal_id: int) -> Posting:
    async with books.database.transaction() as session:
        return await reverse(session, journal_id, "sent by mistake")


async def _debt(books: Books, user: UUID) -> int:
    query = (
        "select posted from balance b join account a on a.id = b.account_id"
        " where a.kind = 'user_receivable' and a.owner_id = :user"
    )
    return int(await books.scalar(query, user=user) or 0)


async def test_a_transfer_is_reversed_once_by_a_new_journal(site: Site) -> None:
    alice, bob = await site.user(100), await site.user(20)
    sent = await site.send(alice, {"recipient": str(bob.user_id), "amount": 60})
    journal_id = int(sent.json()["id"].partition("-")[0])
    postings = await asyncio.gather(*[_reverse(site.books, journal_id) for _ in range(5)])
    assert sorted(posting.replayed for posting in postings) == [False, True, True, True, True]
    assert len({posting.journal_id for posting in postings}) == 1
    assert await site.books.available(alice.user_id) == 100
    assert await site.books.available(bob.user_id) == 20
    items = (await site.get(bob, "/payments/history")).json()["items"]
    assert [(each["type"], each["amount"]) for each in items[:2]] == [
        ("transfer_reversal", 60),
        ("transfer", 60),
    ]
    assert items[0]["memo"] == "sent by mistake"
    audited = "select count(*) from audit_log where action = 'payments.transfer.reversed'"
    assert await site.books.scalar(audited) == 2


async def test_what_is_spent_already_becomes_a_debt(site: Site) -> None:
    alice, bob, carol = await site.user(100), await site.user(), await site.user()
    sent = await site.send(alice, {"recipient": str(bob.user_id), "amount": 60})
    await site.send(bob, {"recipient": str(carol.user_id), "amount": 45})
    await _reverse(site.books, int(sent.json()["id"].partition("-")[0]))
    assert await site.books.available(alice.user_id) == 100
    assert await site.books.available(bob.user_id) == 0
    assert await _debt(site.books, bob.user_id) == -45
    reserves = (await site.get(None, "/payments/reserves")).json()
    assert (reserves["receivables"], reserves["balanced"]) == (45, True)


async def test_nothing_else_is_reversed_by_hand(site: Site) -> None:
    alice, bob = await site.user(10), await site.user()
    refused = await site.send(alice, {"recipient": str(bob.user_id), "amount": 60}, "k")
    assert refused.status_code == 422
    for journal_id in await site.books.rows("select id from journal"):
        with pytest.raises(NotReversibleError):
            await _reverse(site.books, journal_id[0])
    with pytest.raises(NotReversibleError):
        await _reverse(site.books, 0)
