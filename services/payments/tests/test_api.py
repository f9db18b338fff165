"""The HTTP surface: what users can do with their money, and what is refused and how."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from memepool_chain import headerstore
from memepool_chain.address import address_of
from memepool_chain.headerstore import Checkpoint
from memepool_chain.keys import PrivateKey
from memepool_chain.network import MAIN, REGTEST
from memepool_common.ids import uuid7
from memepool_common.server import serving
from memepool_common.settings import AuthnSettings, DatabaseSettings
from memepool_common.testing import TestIssuer, stub_auth
from memepool_common.tokens import Principal
from memepool_common.web.app import Probes
from memepool_payments import events
from memepool_payments.app import create_apps
from memepool_payments.settings import MoneySettings, Settings
from memepool_payments.use_cases import transfers
from services.payments.tests.ballot import Ballot
from services.payments.tests.books import Books
from services.payments.tests.test_deposits import SETTINGS as CHAIN

SIGNED_FROM = 1_000_000


class Site:
    """The service over HTTP."""

    def __init__(self, client: httpx.AsyncClient, books: Books, issuer: TestIssuer) -> None:
        self.client = client
        self.books = books
        self.issuer = issuer

    async def user(self, amount: int = 0, role: str = "viewer") -> Principal:
        user_id = await self.books.user(amount)
        wallet = address_of(PrivateKey.generate().public_key, REGTEST)
        principal = self.issuer.principal(role, user_id=user_id, wallet=wallet)
        await self.get(principal, "/payments/balance")
        return principal

    async def get(self, who: Principal | None, path: str, **params: Any) -> httpx.Response:
        return await self.call(who, "GET", path, params=params)

    async def send(
        self, who: Principal | None, body: Any, key: str | bytes | None = None
    ) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.call(who, "POST", "/payments/transfer", json=body, headers=headers)

    async def call(
        self, who: Principal | None, method: str, path: str, **options: Any
    ) -> httpx.Response:
        token = {} if who is None else self.issuer.headers(who)
        headers = {**token, **options.pop("headers", {})}
        return await self.client.request(method, path, headers=headers, **options)


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.json()["detail"]


def settings_of(database: DatabaseSettings, auth_url: str) -> Settings:
    return Settings(
        database=database,
        authn=AuthnSettings(internal_url=auth_url, poll_interval_s=0.05),
        chain=CHAIN,
        money=MoneySettings(signed_transfer_from=SIGNED_FROM),
        arc_callback_token=SecretStr("the token that arc has"),
    )


@pytest_asyncio.fixture
async def site(books: Books, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(transfers, "WAIT_S", 0.1)
    async with books.database.transaction() as session:
        await headerstore.initialize(session, Checkpoint.genesis(REGTEST))
    issuer = TestIssuer()
    probes = Probes()
    async with stub_auth(issuer) as auth_url:
        settings = settings_of(books.database.settings, auth_url)
        public, _ = create_apps(settings, probes)
        async with (
            serving(public, "127.0.0.1", 0) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            async with asyncio.timeout(5):
                while await probes.failures():
                    await asyncio.sleep(0.01)
            yield Site(client, books, issuer)


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
    refused(await site.send(alice, good | {"recipient": str(alice.user_id)}), 422, "self_transfer")
    mine = good | {"recipient": alice.wallet_address}
    refused(await site.send(alice, mine), 422, "self_transfer")
    unknown = address_of(PrivateKey.generate().public_key, REGTEST)
    refused(await site.send(alice, good | {"recipient": unknown}), 404, "not_known_yet")
    refused(await site.send(alice, good | {"amount": SIGNED_FROM}), 501, "not_built_yet")
    refused(await site.send(alice, good, "k" * 256), 422, "invalid_request")
    refused(await site.send(alice, good, b"caf\xe9"), 422, "invalid_request")
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


async def test_history_has_every_type_in_pages_and_filters(site: Site) -> None:
    alice, bob = await site.user(100), await site.user()
    ballot = Ballot(site.books)
    vote = (uuid7(), alice.user_id, uuid7(), 10)
    await ballot.place(vote)
    await ballot.reject(vote)
    await site.send(alice, {"recipient": str(bob.user_id), "amount": 5})
    everything = (await site.get(alice, "/payments/history")).json()["items"]
    assert [(each["type"], each["amount"]) for each in everything] == [
        ("transfer", 5),
        ("stake_refund", 10),
        ("stake", 10),
        ("deposit", 100),
    ]
    stake = everything[2]
    assert (stake["sender"], stake["recipient"]) == (str(alice.user_id), "round:800000")
    paged, cursor = [], None
    while True:
        params = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        page = (await site.get(alice, "/payments/history", **params)).json()
        paged += page["items"]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert paged == everything
    only = (await site.get(alice, "/payments/history", type="stake")).json()["items"]
    assert only == [stake]
    when = {"from": stake["timestamp"], "to": everything[1]["timestamp"]}
    assert (await site.get(alice, "/payments/history", **when)).json()["items"] == [stake]
    for params, pointer in (
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"type": "loan"}, "type"),
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-01-01T00:00:00"}, "from"),
    ):
        answer = await site.get(alice, "/payments/history", **params)
        refused(answer, 422, "invalid_request")
        assert answer.json()["errors"][0]["pointer"] == pointer
    for cursor in ("x", "W10", "WyJhIiwxXQ", "é"):
        refused(await site.get(alice, "/payments/history", cursor=cursor), 422, "invalid_cursor")
    refused(await site.get(None, "/payments/history"), 401, "token_required")


async def test_the_transactions_and_deposits_of_others_are_not_found(site: Site) -> None:
    alice, bob, carol = await site.user(100), await site.user(), await site.user()
    sent = (await site.send(alice, {"recipient": str(bob.user_id), "amount": 5})).json()["id"]
    refused(await site.get(carol, f"/payments/transactions/{sent}"), 404, "transaction_unknown")
    refused(await site.get(carol, "/payments/transactions/9-9999"), 404, "transaction_unknown")
    for wrong in ("1", "a-1", "-1-1", "9" * 19 + "-1", "1-99999"):
        answer = await site.get(alice, f"/payments/transactions/{wrong}")
        refused(answer, 422, "invalid_request")
    outpoint = f"{'ab' * 32}:0"
    refused(await site.get(alice, f"/payments/deposits/{outpoint}"), 404, "deposit_unknown")
    refused(await site.get(alice, "/payments/deposits/7"), 422, "invalid_request")


async def test_the_deposit_address_is_the_callers_own_and_stays(site: Site) -> None:
    alice, bob = await site.user(), await site.user()
    first = (await site.get(alice, "/payments/deposit-address")).json()["address"]
    assert (await site.get(alice, "/payments/deposit-address")).json()["address"] == first
    assert (await site.get(bob, "/payments/deposit-address")).json()["address"] != first
    assert (await site.get(alice, "/payments/deposits")).json() == {
        "items": [],
        "nextCursor": None,
    }


async def test_deposits_are_listed_with_their_confirmations(site: Site) -> None:
    alice = await site.user()
    await site.get(alice, "/payments/deposit-address")
    async with site.books.database.transaction() as session:
        for number in range(3):
            await session.execute(
                text(
                    "insert into deposit (txid, vout, user_id, amount) values (:txid, 0, :user, 5)"
                ),
                {"txid": f"{number:064x}", "user": alice.user_id},
            )
            await session.execute(
                text(
                    "insert into coin (txid, vout, amount, key_index, state)"
                    " values (:txid, 0, 5, 0, 'pending')"
                ),
                {"txid": f"{number:064x}"},
            )
    page = (await site.get(alice, "/payments/deposits", limit=2)).json()
    rest = (await site.get(alice, "/payments/deposits", cursor=page["nextCursor"])).json()
    listed = [*page["items"], *rest["items"]]
    assert {each["txid"] for each in listed} == {f"{number:064x}" for number in range(3)}
    one = (await site.get(alice, f"/payments/deposits/{listed[0]['id']}")).json()
    assert one == listed[0]
    assert (one["state"], one["confirmations"], one["requiredConfirmations"]) == ("pending", 0, 1)
    assert (await site.get(alice, "/payments/balance")).json()["pending"] == 15


async def test_reserves_and_fees_are_public_and_add_up(site: Site) -> None:
    alice = await site.user(100)
    await Ballot(site.books).place((uuid7(), alice.user_id, uuid7(), 40))
    reserves = (await site.get(None, "/payments/reserves")).json()
    assert reserves["owed"] == {
        "available": 60,
        "held": 0,
        "escrow": 40,
        "carry": 0,
        "total": 100,
    }
    assert (reserves["coins"], reserves["balanced"]) == (100, True)
    fees = (await site.get(None, "/payments/fees")).json()
    assert fees["platformFeeBasisPoints"] == 200
    held = (await site.get(alice, "/payments/balance")).json()
    assert (held["available"], held["held"]) == (60, 40)


async def test_an_admin_freezes_and_releases(site: Site) -> None:
    alice, bob, admin = await site.user(100), await site.user(), await site.user(role="admin")
    path = f"/payments/accounts/{alice.user_id}/freeze"
    refused(await site.call(alice, "POST", path), 403, "role_required")
    assert (await site.call(admin, "POST", path)).status_code == 201
    body = {"recipient": str(bob.user_id), "amount": 1}
    refused(await site.send(alice, body), 422, "account_frozen")
    assert (await site.call(admin, "DELETE", path)).status_code == 204
    assert (await site.send(alice, body)).status_code == 201
    nobody = f"/payments/accounts/{uuid7()}/freeze"
    refused(await site.call(admin, "POST", nobody), 404, "user_unknown")
    refused(await site.call(admin, "POST", "/payments/accounts/x/freeze"), 422, "invalid_request")
    report = await site.get(admin, "/payments/fees/report")
    assert report.json()["platformFees"] == 0
    refused(await site.get(alice, "/payments/fees/report"), 403, "role_required")


async def test_what_a_later_step_fills_checks_the_caller_and_the_body_first(site: Site) -> None:
    alice, admin = await site.user(100), await site.user(role="admin")
    withdrawal = {"amount": 5}
    key = {"Idempotency-Key": "w"}
    for who, method, path, body in (
        (alice, "POST", "/payments/withdrawals", withdrawal),
        (alice, "GET", "/payments/withdrawals", None),
        (alice, "GET", f"/payments/withdrawals/{uuid7()}", None),
        (alice, "GET", "/payments/payout", None),
        (alice, "PUT", "/payments/payout", {"automatic": True}),
        (alice, "POST", "/payments/deposits", {"rawTx": "00"}),
        (admin, "POST", "/payments/distributions/800000/retry", None),
        (admin, "POST", "/payments/distributions/800000/refund", None),
    ):
        unknown = await site.call(None, method, path, json=body, headers=key)
        refused(unknown, 401, "token_required")
        built = await site.call(who, method, path, json=body, headers=key)
        refused(built, 501, "not_built_yet")
    without_key = await site.call(alice, "POST", "/payments/withdrawals", json=withdrawal)
    refused(without_key, 422, "invalid_request")
    repair = "/payments/distributions/800000/retry"
    refused(await site.call(alice, "POST", repair), 403, "role_required")
    notice = {"txid": "ab" * 32, "txStatus": "MINED"}
    callback = "/payments/arc/callback"
    refused(await site.call(None, "POST", callback, json=notice), 401, "token_invalid")
    told = {"Authorization": "Bearer the token that arc has"}
    answer = await site.call(None, "POST", callback, json=notice, headers=told)
    refused(answer, 501, "not_built_yet")


async def test_a_commit_that_fails_is_an_error_and_leaves_nothing(
    site: Site, database_settings_for: Callable[..., DatabaseSettings]
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
