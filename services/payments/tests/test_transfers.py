"""Transfers over HTTP: once per key, never more than there is, and bad ones say why."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import create_engine, text

from memepool_chain.address import address_of
from memepool_chain.keys import PrivateKey
from memepool_chain.network import MAIN, REGTEST
from memepool_payments import events
from services.payments.tests.site import Site, refused


async def test_a_transfer_by_user_id_and_by_wallet_reaches_the_same_user(site: Site) -> None:
    alice, bob = await site.user(100), await site.user()
    by_id = await site.send(alice, {"recipient": str(bob.user_id), "amount": 30, "memo": "for 1"})
    by_wallet = await site.send(alice, {"recipient": bob.wallet_address, "amount": 20})
    assert by_id.status_code == by_wallet.status_code == 201
    posted = by_id.json()
    assert posted == {
        "id": posted["id"],
        "type": "transfer",
        "amount": 30,
        "sender": str(alice.user_id),
        "recipient": str(bob.user_id),
        "timestamp": posted["timestamp"],
        "memo": "for 1",
        "txid": None,
    }
    balance = (await site.get(bob, "/payments/balance")).json()
    assert balance == {"available": 50, "withdrawable": 0, "held": 0, "pending": 0}
    for who in (alice, bob):
        seen = await site.get(who, f"/payments/transactions/{posted['id']}")
        assert seen.json() == posted
    feed = (await site.get(bob, "/payments/audit")).json()["items"]
    assert [line["action"] for line in feed] == ["payments.transfer.posted"] * 2
    assert len(await site.books.announced(events.TRANSFER_POSTED)) == 2


async def test_an_empty_memo_is_shown_as_it_was_sent(site: Site) -> None:
    alice, bob = await site.user(1), await site.user()
    sent = await site.send(alice, {"recipient": str(bob.user_id), "amount": 1, "memo": ""})
    seen = await site.get(bob, f"/payments/transactions/{sent.json()['id']}")
    assert seen.json() == sent.json()


async def test_a_repeated_key_gets_the_first_answer_and_moves_nothing(site: Site) -> None:
    alice, bob = await site.user(100), await site.user()
    body = {"recipient": str(bob.user_id), "amount": 60}
    answers = await asyncio.gather(*[site.send(alice, body, "k1") for _ in range(6)])
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    refused(await site.send(alice, body | {"amount": 61}, "k1"), 422, "idempotency_key_reused")
    assert await site.books.available(alice.user_id) == 40
    assert (await site.send(bob, {"recipient": str(alice.user_id), "amount": 1}, "k1")).is_success


async def test_a_refusal_is_the_answer_of_its_key_for_ever(site: Site) -> None:
    alice, bob = await site.user(10), await site.user(100)
    body = {"recipient": str(bob.user_id), "amount": 11}
    refused(await site.send(alice, body, "poor"), 422, "insufficient_funds")
    await site.send(bob, {"recipient": str(alice.user_id), "amount": 50})
    refused(await site.send(alice, body, "poor"), 422, "insufficient_funds")
    assert (await site.send(alice, body, "rich")).status_code == 201


async def test_an_unknown_recipient_is_not_stored_under_the_key(site: Site) -> None:
    alice = await site.user(10)
    stranger = site.issuer.principal()
    body = {"recipient": str(stranger.user_id), "amount": 1}
    answer = await site.send(alice, body, "k")
    refused(answer, 404, "not_known_yet")
    assert answer.headers["retry-after"] == "1"
    await site.get(stranger, "/payments/balance")
    assert (await site.send(alice, body, "k")).status_code == 201


WRONG_AMOUNTS: list[Any] = [
    0,
    -1,
    1.5,
    1.0,
    "1",
    True,
    None,
    21 * 10**14 + 1,
    2**63,
    10**400,
    [],
    {},
]


@pytest.mark.parametrize("amount", WRONG_AMOUNTS, ids=lambda value: str(value)[:12])
async def test_amounts_that_are_none(site: Site, amount: Any) -> None:
    alice, bob = await site.user(100), await site.user()
    answer = await site.send(alice, {"recipient": str(bob.user_id), "amount": amount})
    refused(answer, 422, "invalid_request")
    assert answer.json()["errors"][0]["pointer"] == "/amount"
    assert await site.books.available(alice.user_id) == 100


async def test_bad_transfers_say_what_is_wrong(site: Site) -> None:
    alice, bob = await site.user(100), await site.user()
    good: dict[str, Any] = {"recipient": str(bob.user_id), "amount": 1}
    for change, pointer in (
        ({"note": "x"}, "/note"),
        ({"memo": "x" * 201}, "/memo"),
        ({"memo": "a\x00b"}, "/memo"),
        ({"memo": 5}, "/memo"),
        ({"recipient": ""}, "/recipient"),
        ({"recipient": 7}, "/recipient"),
        ({"recipient": "x" * 65}, "/recipient"),
    ):
        answer = await site.send(alice, good | change)
        refused(answer, 422, "invalid_request")
        assert answer.json()["errors"][0]["pointer"] == pointer
    foreign = address_of(PrivateKey.generate().public_key, MAIN)
    for recipient in ("nobody", "0" * 36, "z" * 36, foreign, bob.wallet_address[:-1] + "1", "💰"):
        refused(await site.send(alice, good | {"recipient": recipient}), 422, "invalid_recipient")
    bobs = str(bob.user_id)
    arabic = bobs.translate({ord("0") + digit: 0x660 + digit for digit in range(10)})
    assert UUID(arabic) == UUID("\n" + bobs[1:]) == bob.user_id
    for recipient in (arabic, "\n" + bobs[1:], f"urn:{bob.user_id.hex}", f"{bob.user_id.hex}----"):
        refused(await site.send(alice, good | {"recipient": recipient}), 422, "invalid_recipient")
    refused(await site.send(alice, good | {"recipient": str(alice.user_id)}), 422, "self_transfer")
    mine = good | {"recipient": alice.wallet_address}
    refused(await site.send(alice, mine), 422, "self_transfer")
    unknown = address_of(PrivateKey.generate().public_key, REGTEST)
    refused(await site.send(alice, good | {"recipient": unknown}), 404, "not_known_yet")
    refused(await site.send(alice, good, "k" * 256), 422, "invalid_request")
    refused(await site.send(alice, good, b"caf\xe9"), 422, "invalid_request")
    keys = [(b"Idempotency-Key", b"one"), (b"Idempotency-Key", b"two")]
    token = [(name.encode(), text.encode()) for name, text in site.issuer.headers(alice).items()]
    twice = await site.client.post("/payments/transfer", json=good, headers=[*token, *keys])
    refused(twice, 422, "repeated_name")
    refused(await site.send(None, good), 401, "token_required")
    json_type = {"content-type": "application/json"}
    malformed = await site.call(
        alice, "POST", "/payments/transfer", content=b'{"amount": 1', headers=json_type
    )
    refused(malformed, 400, "malformed_json")
    lone = await site.call(
        alice,
        "POST",
        "/payments/transfer",
        content=b'{"recipient": "%s", "amount": 1, "memo": "\\ud800"}' % str(bob.user_id).encode(),
        headers=json_type,
    )
    assert lone.status_code in (400, 422), lone.text
    assert await site.books.available(alice.user_id) == 100


async def test_a_commit_that_fails_is_an_error_and_leaves_nothing(
    site: Site,
) -> None:
    alice, bob = await site.user(100), await site.user()
    assert site.books.database.settings.owner_url is not None
    engine = create_engine(site.books.database.settings.owner_url.get_secret_value())
    with engine.begin() as owner:
        owner.execute(
            text(
                "create function fail() returns trigger language plpgsql as"
                " $$ begin raise exception 'the commit fails'; end $$"
            )
        )
        for table in ("journal", "deposit_address"):
            owner.execute(
                text(
                    f"create constraint trigger fail after insert on {table}"
                    " deferrable initially deferred for each row execute function fail()"
                )
            )
    engine.dispose()
    body = {"recipient": str(bob.user_id), "amount": 1}
    refused(await site.send(alice, body, "k"), 500, "internal_error")
    refused(await site.get(alice, "/payments/deposit-address"), 500, "internal_error")
    assert await site.books.available(alice.user_id) == 100
    assert await site.books.scalar("select count(*) from deposit_address") == 0
    assert await site.books.announced(events.TRANSFER_POSTED) == []


async def test_many_transfers_at_once_lose_and_make_nothing(site: Site) -> None:
    people = [await site.user(50) for _ in range(5)]

    async def give(number: int) -> int:
        sender, recipient = people[number % 5], people[(number * 3 + 1) % 5]
        if sender == recipient:
            return 201
        body = {"recipient": str(recipient.user_id), "amount": 1 + number % 30}
        return (await site.send(sender, body, f"{number // 2}")).status_code

    statuses = await asyncio.gather(*[give(number) for number in range(80)])
    assert set(statuses) <= {201, 422}
    ids: list[UUID] = [person.user_id for person in people]
    assert sum([await site.books.available(each) for each in ids]) == 250
