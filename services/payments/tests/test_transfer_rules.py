"""Transfers that need more than money: a signature; and the limits and the fee of the others."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text

from memepool_chain.brc100 import Purpose, sign_brc100
from memepool_chain.keys import PrivateKey
from memepool_chain.message import sign_bsm
from memepool_chain.network import REGTEST
from memepool_common.ids import uuid7
from memepool_common.tokens import Principal
from memepool_payments.domain.errors import SignatureRequiredError
from memepool_payments.domain.journal import Movement, NewJournal
from memepool_payments.settings import MoneySettings
from memepool_payments.store import challenges, ledger
from memepool_payments.store.ledger import Velocity
from memepool_payments.use_cases.members import Acquaintance
from memepool_payments.use_cases.posting import Poster
from memepool_payments.use_cases.signing import Proof, require_signature
from memepool_payments.use_cases.transfers import Desk, Transfer
from services.payments.tests.books import NO_LIMITS, Books, transfer_journal
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


async def test_a_brc100_wallet_signs_with_the_child_that_the_challenge_names(site: Site) -> None:
    alice, bob = await site.user(3 * LARGE), await site.user()
    body: dict[str, Any] = {"recipient": str(bob.user_id), "amount": LARGE}
    wallet = site.wallets[alice.user_id]

    async def signed(protocol: str | None = None, key: PrivateKey = wallet) -> dict[str, Any]:
        challenge = await _challenge(site, alice, body)
        (level, name), key_id = challenge["brc100"]["protocolId"], challenge["brc100"]["keyId"]
        assert challenge["brc100"]["counterparty"] == "anyone"
        signature = sign_brc100(challenge["message"], Purpose(level, protocol or name, key_id), key)
        return body | {
            "nonce": challenge["nonce"],
            "signature": base64.b64encode(signature).decode(),
            "scheme": "brc100",
            "publicKey": key.public_key.hex(),
        }

    other = site.wallets[bob.user_id]
    refused(await site.send(alice, await signed(key=other)), 403, "signature_mismatch")
    refused(await site.send(alice, await signed("memepool login")), 403, "signature_mismatch")
    good = await signed()
    refused(await site.send(alice, good | {"publicKey": None}), 422, "invalid_request")
    refused(await site.send(alice, good | {"publicKey": "02" + "ff" * 33}), 422, "invalid_request")
    refused(await site.send(alice, good | {"scheme": "brc77"}), 422, "invalid_request")
    assert (await site.send(alice, good)).status_code == 201
    none = await signed() | {"publicKey": "02" + "ff" * 32}
    refused(await site.send(alice, none), 403, "malformed_public_key")
    junk = await signed() | {"signature": "AAAA"}
    refused(await site.send(alice, junk), 403, "malformed_signature")
    assert await site.books.available(bob.user_id) == LARGE


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


async def test_those_that_were_signed_do_not_lie_around(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenges, "OPEN_MAX", 1)
    alice, bob = await site.user(3 * LARGE), await site.user()
    body = {"recipient": str(bob.user_id), "amount": LARGE}
    for _ in range(3):
        signed = body | _signed(site, alice, await _challenge(site, alice, body))
        assert (await site.send(alice, signed)).status_code == 201
    assert await site.books.available(bob.user_id) == 3 * LARGE


async def test_a_signature_is_good_for_the_fee_that_it_names_only(site: Site) -> None:
    alice, bob = await site.user(), await site.user()
    database = site.books.database
    wanted = Transfer(alice, str(bob.user_id), LARGE, None, None)
    free, charged = (
        Desk(Acquaintance(database), Poster(database, NO_LIMITS._replace(fee=fee)), REGTEST)
        for fee in (0, 5)
    )
    with pytest.raises(SignatureRequiredError) as asked:
        await require_signature(database, free, wanted, None)
    challenge = dict(asked.value.extra["challenge"])
    proof = Proof(**_signed(site, alice, challenge), scheme="bsm", public_key=None)
    with pytest.raises(SignatureRequiredError) as again:
        await require_signature(database, charged, wanted, proof)
    assert "\nFee: 5 satoshis\n" in str(again.value.extra["challenge"]["message"])
    await require_signature(database, free, wanted, proof)


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


async def test_who_began_in_the_hour_before_does_not_start_the_count_anew(strict: Site) -> None:
    alice, bob = await strict.user(1_000), await strict.user()
    body: dict[str, Any] = {"recipient": str(bob.user_id), "amount": 60}
    assert (await strict.send(alice, body)).status_code == 201
    # As if that had begun after the full hour, and had the lock before one from before it.
    later = "update balance set sent_hour = sent_hour + 1 where sent > 0"
    await _as_owner(strict.books, later)
    refused(await strict.send(alice, body), 429, "transfer_limit")
    assert (await strict.send(alice, body | {"amount": 10})).status_code == 201
    refused(await strict.send(alice, body), 429, "transfer_limit")
    wrong = "update balance set sent_hour = sent_hour + 9 where sent > 0"
    await _as_owner(strict.books, wrong)  # a clock's error does not count until then
    assert (await strict.send(alice, body)).status_code == 201


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


async def test_an_hour_counts_that_looks_like_the_one_before(books: Books) -> None:
    alice, bob = await books.funded([10, 10])
    limits = Velocity(sent_max=10, sends_max=9)

    async def swap(name: str) -> list[str]:
        async with books.database.transaction() as session:
            batch = [
                await transfer_journal(session, alice, bob, 10, name),
                await transfer_journal(session, bob, alice, 10, name),
            ]
            return [posting.outcome for posting in await ledger.post(session, batch, limits)]

    assert await swap("before") == ["posted", "posted"]
    await _as_owner(books, "update balance set sent_hour = sent_hour - 1 where sent > 0")
    assert await swap("now") == ["posted", "posted"]  # the row has the same sums as before
    assert await swap("more") == ["too_fast", "too_fast"]


async def test_stakes_and_other_journals_do_not_count_as_transfers(books: Books) -> None:
    (alice,) = await books.funded([100])
    async with books.database.transaction() as session:
        account = (await ledger.accounts_of(session, [alice]))[alice]
        carry = await ledger.platform_account(session, ledger.CARRY)
        there = [Movement(account, carry, 50)]
        back = [Movement(carry, account, 50)]
        journals = [
            NewJournal("test", str(uuid7()), b"", "fee", there),
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
