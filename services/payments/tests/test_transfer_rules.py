"""Transfers that need more than money: a signature; and the limits and the fee of the others."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text

from memepool_chain.message import sign_bsm
from memepool_common.ids import uuid7
from memepool_common.tokens import Principal
from memepool_payments.domain.journal import NewJournal, movement
from memepool_payments.settings import MoneySettings
from memepool_payments.store import challenges, ledger
from memepool_payments.store.ledger import Velocity
from services.payments.tests.books import Books, transfer_journal
from services.payments.tests.site import SIGNED_FROM, Site, open_site, refused

LARGE = SIGNED_FROM


async def _challenge(site: Site, who: Principal, body: dict[str, Any]) -> dict[str, Any]:
    answer = await site.send(who, body)
    refused(answer, 403, "signature_required")
    challenge: dict[str, Any] = answer.json()["challenge"]
    return challenge


def _signed(site: Site, who: Principal, challenge: dict[str, Any]) -> dict[str, str]:
    signature = sign_bsm(challenge["message"], site.wallets[who.user_id])
    return {"nonce": challenge["nonce"], "signature": signature}


async def test_a_large_transfer_is_posted_with_the_wallets_signature_and_only_once(
    site: Site,
) -> None:
    alice, bob = await site.user(3 * LARGE), await site.user()
    body = {"recipient": str(bob.user_id), "amount": LARGE, "memo": "a\nAmount: 1 satoshis 💰"}
    challenge = await _challenge(site, alice, body)
    lines = challenge["message"].split("\n")
    assert f"To: {bob.user_id}" in lines
    assert f"Amount: {LARGE} satoshis" in lines
    assert f"Memo: {json.dumps(body['memo'])}" in lines
    assert f"From: {alice.wallet_address}" in lines
    signed = body | _signed(site, alice, challenge)
    answers = await asyncio.gather(*[site.send(alice, signed) for _ in range(4)])
    assert sorted(answer.status_code for answer in answers) == [201, 403, 403, 403]
    assert await site.books.available(bob.user_id) == LARGE


async def test_with_a_key_the_signed_call_and_its_repetitions_get_one_answer(site: Site) -> None:
    alice, bob = await site.user(2 * LARGE), await site.user()
    body = {"recipient": str(bob.user_id), "amount": LARGE}
    refused(await site.send(alice, body, "k"), 403, "signature_required")
    signed = body | _signed(site, alice, await _challenge(site, alice, body))
    first = await site.send(alice, signed, "k")
    assert first.status_code == 201
    for again in (signed, body):
        assert (await site.send(alice, again, "k")).text == first.text
    other = body | {"amount": LARGE + 1}
    refused(await site.send(alice, other, "k"), 422, "idempotency_key_reused")
    assert await site.books.available(bob.user_id) == LARGE


async def test_a_signature_is_good_for_its_own_intent_user_and_time_only(site: Site) -> None:
    alice, bob, carol = await site.user(9 * LARGE), await site.user(9 * LARGE), await site.user()
    body: dict[str, Any] = {"recipient": str(carol.user_id), "amount": LARGE}
    signed = _signed(site, alice, await _challenge(site, alice, body))
    for change in ({"amount": LARGE + 1}, {"recipient": str(bob.user_id)}, {"memo": "x"}):
        refused(await site.send(alice, body | change | signed), 403, "signature_required")
    refused(await site.send(bob, body | signed), 403, "signature_required")
    refused(await site.send(alice, body | {"nonce": signed["nonce"]}), 403, "signature_required")
    refused(await site.send(alice, body | signed | {"nonce": "x"}), 403, "signature_required")
    engine = "update signature_challenge set expires_at = now() where nonce = :nonce"
    await _as_owner(site.books, engine, nonce=signed["nonce"])
    refused(await site.send(alice, body | signed), 403, "signature_required")
    assert await site.books.available(carol.user_id) == 0


async def test_another_wallets_signature_uses_the_challenge_up(site: Site) -> None:
    alice, bob = await site.user(LARGE), await site.user()
    body: dict[str, Any] = {"recipient": str(bob.user_id), "amount": LARGE}
    challenge = await _challenge(site, alice, body)
    foreign = sign_bsm(challenge["message"], site.wallets[bob.user_id])
    wrong = body | {"nonce": challenge["nonce"], "signature": foreign}
    refused(await site.send(alice, wrong), 403, "signature_mismatch")
    right = body | _signed(site, alice, challenge)
    refused(await site.send(alice, right), 403, "signature_required")
    challenge = await _challenge(site, alice, body)
    garbage = body | {"nonce": challenge["nonce"], "signature": "💰"}
    refused(await site.send(alice, garbage), 403, "malformed_signature")
    poor = _signed(site, bob, await _challenge(site, bob, body | {"recipient": str(alice.user_id)}))
    answer = await site.send(bob, body | {"recipient": str(alice.user_id)} | poor)
    refused(answer, 422, "insufficient_funds")


async def test_challenges_that_lie_around_are_bounded(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenges, "OPEN_MAX", 2)
    alice, bob = await site.user(LARGE), await site.user()
    body = {"recipient": str(bob.user_id), "amount": LARGE}
    answers = await asyncio.gather(*[site.send(alice, body) for _ in range(4)])
    assert sorted(answer.status_code for answer in answers) == [403, 403, 429, 429]
    await _as_owner(site.books, "update signature_challenge set expires_at = now()")
    assert await _challenge(site, alice, body)
    assert await site.books.scalar("select count(*) from signature_challenge") == 1


@pytest_asyncio.fixture
async def strict(books: Books) -> AsyncIterator[Site]:
    """A service that takes 2 satoshis a transfer, three transfers and 100 satoshis an hour."""
    rules = MoneySettings(transfer_fee=2, sent_per_hour_max=100, transfers_per_hour_max=3)
    async with open_site(books, rules) as opened:
        yield opened


async def test_the_fee_is_a_line_of_its_own_in_journal_history_and_report(strict: Site) -> None:
    alice, bob, admin = await strict.user(90), await strict.user(), await strict.user(role="admin")
    assert (await strict.get(None, "/payments/fees")).json()["transferFee"] == 2
    sent = await strict.send(alice, {"recipient": str(bob.user_id), "amount": 50, "memo": "m"})
    assert sent.json()["amount"] == 50
    assert await strict.books.available(alice.user_id) == 38
    assert await strict.books.available(bob.user_id) == 50
    items = (await strict.get(alice, "/payments/history")).json()["items"]
    shown = [(each["type"], each["amount"], each["recipient"], each["memo"]) for each in items]
    assert shown[:2] == [("fee", 2, None, None), ("transfer", 50, str(bob.user_id), "m")]
    for kind in ("fee", "transfer"):
        only = (await strict.get(alice, "/payments/history", type=kind)).json()["items"]
        assert [each["type"] for each in only] == [kind]
    one = await strict.get(alice, f"/payments/transactions/{items[0]['id']}")
    assert one.json() == items[0]
    report = (await strict.get(admin, "/payments/fees/report")).json()
    assert (report["platformFees"], report["transferFees"]) == (0, 2)
    refused(
        await strict.send(alice, {"recipient": str(bob.user_id), "amount": 37}),
        422,
        "insufficient_funds",
    )
    reserves = (await strict.get(None, "/payments/reserves")).json()
    assert (reserves["platformFees"], reserves["balanced"]) == (2, True)


async def test_what_one_user_sends_within_an_hour_is_limited(strict: Site) -> None:
    alice, bob = await strict.user(1_000), await strict.user()
    body: dict[str, Any] = {"recipient": str(bob.user_id), "amount": 10}
    answer = await strict.send(alice, body | {"amount": 99}, "much")  # 101 with the fee
    refused(answer, 429, "transfer_limit")
    assert 1 <= int(answer.headers["retry-after"]) <= 3_600
    first = await strict.send(alice, body, "k")
    answers = await asyncio.gather(*[strict.send(alice, body) for _ in range(5)])
    assert sorted(answer.status_code for answer in answers) == [201, 201, 429, 429, 429]
    assert (await strict.send(alice, body, "k")).text == first.text  # a repetition is no transfer
    assert await strict.books.available(bob.user_id) == 30
    back = await strict.send(bob, {"recipient": str(alice.user_id), "amount": 5})
    assert back.status_code == 201
    await _as_owner(strict.books, "update balance set sent_hour = sent_hour - 1")
    assert (await strict.send(alice, body | {"amount": 60}, "much")).status_code == 201


async def test_batches_and_single_postings_count_alike(books: Books) -> None:
    limits = Velocity(sent_max=25, sends_max=3)
    for together in (True, False):
        alice, bob = await books.funded([1_000, 1_000])
        async with books.database.transaction() as session:
            wanted = [
                await transfer_journal(session, alice, bob, amount, f"{together}-{n}")
                for n, amount in enumerate((10, 20, 10, 5, 1))
            ]
            back = await transfer_journal(session, bob, alice, 25, f"{together}-back")
            batches = [[*wanted, back]] if together else [[each] for each in (*wanted, back)]
            outcomes = [
                posting.outcome
                for batch in batches
                for posting in await ledger.post(session, batch, limits)
            ]
        assert outcomes == ["posted", "too_fast", "posted", "posted", "too_fast", "posted"]
        row = "select sent, sends from balance b join account a on a.id = b.account_id"
        assert await books.rows(f"{row} where a.owner_id = :user", user=alice) == [(25, 3)]


async def test_stakes_and_other_journals_do_not_count_as_transfers(books: Books) -> None:
    (alice,) = await books.funded([100])
    async with books.database.transaction() as session:
        account = (await ledger.accounts_of(session, [alice]))[alice]
        carry = await ledger.platform_account(session, ledger.CARRY)
        legs = tuple(movement(1, account, carry, 50))
        back = tuple(movement(1, carry, account, 50))
        journals = [
            NewJournal("test", str(uuid7()), b"", "fee", legs),
            NewJournal("test", str(uuid7()), b"", "fee", back),
        ]
        posted = await ledger.post(session, journals, Velocity(sent_max=1, sends_max=1))
    assert [posting.outcome for posting in posted] == ["posted", "posted"]


async def _as_owner(books: Books, statement: str, **values: object) -> None:
    settings = books.database.settings
    assert settings.owner_url is not None
    owner = type(books.database).connect(settings.model_copy(update={"url": settings.owner_url}))
    async with owner.transaction() as session:
        await session.execute(text(statement), values)
    await owner.close()
