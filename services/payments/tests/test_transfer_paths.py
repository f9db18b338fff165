"""The short way of a transfer and FastAPI's give the same answers; what SQL writes of a transfer is
what the models would."""

import asyncio
import itertools
from typing import Any

import httpx
import pytest

from memepool_common.ids import uuid7
from memepool_common.tokens import Principal
from memepool_payments import events
from memepool_payments.api.models import Transaction
from memepool_payments.use_cases import distribution
from memepool_payments.use_cases.posting import Poster
from services.payments.tests.ballot import Ballot
from services.payments.tests.books import NO_LIMITS, Books, new_transfer
from services.payments.tests.site import SIGNED_FROM, Site
from services.payments.tests.test_distribution import close, closed

ROUTE = {"Prefer": "respond-async"}  # which FastAPI knows nothing of
FREE = {"traceId", "id", "timestamp", "challenge"}
MEMOS = ('café 💰 "\\\n\t\x7f </script>', "", "null", "{}", "x" * 200)


async def both(
    site: Site, who: Principal | None, body: Any, **headers: str
) -> tuple[httpx.Response, httpx.Response]:
    """The answers of the short way, if it takes this, and of the route."""
    short, long = [
        await site.call(who, "POST", "/payments/transfer", json=body, headers=headers | extra)
        for extra in ({}, ROUTE)
    ]
    return short, long


def said(answer: httpx.Response) -> tuple[int, Any, Any]:
    body = {name: value for name, value in answer.json().items() if name not in FREE}
    kept = {"content-type", "retry-after", "www-authenticate"}
    return answer.status_code, body, {n: v for n, v in answer.headers.items() if n in kept}


async def test_either_way_the_answer_is_the_same(site: Site) -> None:
    alice, bob = await site.user(100), await site.user()
    stranger = site.issuer.principal()
    good: dict[str, Any] = {"recipient": str(bob.user_id), "amount": 1}
    for who, body in (
        (alice, good),
        *((alice, good | {"memo": memo}) for memo in MEMOS),
        (alice, good | {"nonce": "n", "signature": "s"}),
        (alice, good | {"scheme": "brc100"}),
        (alice, good | {"recipient": bob.wallet_address}),
        (alice, good | {"recipient": str(bob.user_id).upper()}),
        (alice, good | {"recipient": str(alice.user_id)}),
        (alice, good | {"recipient": "nobody"}),
        (alice, good | {"recipient": str(stranger.user_id)}),
        (alice, good | {"amount": 101}),
        (alice, good | {"amount": SIGNED_FROM}),
        (alice, good | {"amount": SIGNED_FROM - 1}),
        (alice, good | {"more": 1}),
        (site.issuer.principal(), good),
        (None, good),
    ):
        short, long = await both(site, who, body)
        assert said(short) == said(long), body
        if short.is_success:
            for answer in (short, long):
                model = Transaction.model_validate_json(answer.content)
                assert model.model_dump(mode="json") == answer.json()
                assert answer.headers["location"] == f"/payments/transactions/{model.id}"


async def test_a_key_is_one_whichever_way_it_comes(site: Site) -> None:
    alice, bob = await site.user(100), await site.user()
    body = {"recipient": str(bob.user_id), "amount": 60}
    for key, wanted in (("paid", body), ("poor", body), ("paid", body | {"memo": "other"})):
        short, long = await both(site, alice, wanted, **{"Idempotency-Key": key})
        assert said(short) == said(long)
        assert short.json().get("id") == long.json().get("id")
        assert short.headers.get("location") == long.headers.get("location")
    assert await site.books.available(bob.user_id) == 60


async def test_a_batch_announces_and_records_each_transfer_that_is_posted_now(
    books: Books,
) -> None:
    alice, bob = await books.funded([100, 0])
    poster = Poster(books.database, NO_LIMITS._replace(fee=1))
    wanted = [
        (await new_transfer(books, alice, bob, 1 + number, f"{number}"))._replace(memo=memo)
        for number, memo in enumerate((*MEMOS, None))
    ]
    poor = await new_transfer(books, bob, alice, 1_000, "poor")
    first = await asyncio.gather(*map(poster.post, [*wanted, poor]))
    again = await asyncio.gather(*map(poster.post, [*wanted, poor]))
    assert [each.replayed for each in again] == [True] * 7
    assert [each[::3] for each in again] == [each[::3] for each in first]
    posted = list(zip(wanted, first, strict=False))
    assert await books.announced(events.TRANSFER_POSTED) == [
        events.TransferPostedData(
            transaction_id=f"{posting.journal_id}-1",
            sender=alice,
            recipient=bob,
            amount=each.amount,
            memo=each.memo,
            posted_at=posting.created_at,
        ).model_dump(mode="json")
        for each, posting in posted
    ]
    about = "select event_type, subject, version, audience, traceparent from outbox order by seq"
    assert await books.rows(about) == [
        (events.TRANSFER_POSTED, f"{posting.journal_id}-1", 1, f"{alice} {bob}", None)
        for _, posting in posted
    ]
    lines = (
        "select actor_id, account_id, action, subject, outcome, address, details from audit_log"
        " order by id"
    )
    action = "payments.transfer.posted"
    assert await books.rows(lines) == [
        (alice, who, action, f"{posting.journal_id}-1", "done", None, {"amount": each.amount})
        for each, posting in posted
        for who in (alice, bob)
    ]
    fees = "select count(*), sum(amount) from movement where note = 'transfer_fee' and line = 2"
    assert await books.rows(fees) == [(6, 6)]


async def test_transfers_among_those_who_are_being_paid_neither_wait_for_ever_nor_lose_anything(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distribution, "LINES_MAX", 3)
    voters = await books.funded([20] * 30)
    ballot = Ballot(books)
    await ballot.place(*[(uuid7(), voter, uuid7(), 10) for voter in voters])
    lines = [(voter, 9, "backers:1-2000") for voter in reversed(voters)]
    await close(books, closed(300, 30, lines, []))
    poster = Poster(books.database, NO_LIMITS)
    wanted = [
        await new_transfer(books, sender, recipient, 1, f"{number}")
        for number, (sender, recipient) in enumerate(itertools.permutations(voters[::3], 2))
    ]
    await asyncio.gather(distribution.work(books.database), *map(poster.post, wanted))
    assert [await books.available(voter) for voter in voters] == [19] * 30
    deadlocks = "select deadlocks from pg_stat_database where datname = current_database()"
    assert await books.scalar(deadlocks) == 0
