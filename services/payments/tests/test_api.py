"""The rest of the HTTP surface: history, deposits, reserves, admins, what is not built yet."""

import asyncio

from sqlalchemy import text

from memepool_common.ids import uuid7
from memepool_common.testing import TestIssuer
from memepool_common.web.model import encode_cursor
from memepool_payments.use_cases.members import Acquaintance
from services.payments.tests.ballot import Ballot
from services.payments.tests.books import Books
from services.payments.tests.site import Site, refused


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
    beyond = {
        "/payments/history": encode_cursor(2**63 - 1, 2**63 - 1),
        "/payments/deposits": encode_cursor("2100-01-01T00:00:00+00:00", "", 2**63 - 1),
    }
    for path, cursor in beyond.items():  # not ours, but nobody can tell
        assert (await site.get(alice, path, cursor=cursor)).status_code == 200
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
    too_early = {"from": "0001-01-01T00:00:00+14:00"}
    refused(await site.get(admin, "/payments/fees/report", **too_early), 422, "invalid_request")


async def test_a_late_repetition_freezes_nobody_again(site: Site) -> None:
    alice, bob, admin = await site.user(1), await site.user(), await site.user(role="admin")
    path, key = f"/payments/accounts/{alice.user_id}/freeze", {"Idempotency-Key": "k"}
    first = await site.call(admin, "POST", path, headers=key)
    assert (await site.call(admin, "DELETE", path)).status_code == 204
    assert (await site.call(admin, "POST", path, headers=key)).text == first.text
    assert (await site.send(alice, {"recipient": str(bob.user_id), "amount": 1})).status_code == 201
    other = f"/payments/accounts/{bob.user_id}/freeze"
    refused(await site.call(admin, "POST", other, headers=key), 422, "idempotency_key_reused")


async def test_what_a_later_step_fills_checks_the_caller_and_the_body_first(site: Site) -> None:
    alice = await site.user(100)
    withdrawal = {"amount": 5}
    key = {"Idempotency-Key": "w"}
    for who, method, path, body in (
        (alice, "POST", "/payments/withdrawals", withdrawal),
        (alice, "GET", "/payments/withdrawals", None),
        (alice, "GET", f"/payments/withdrawals/{uuid7()}", None),
        (alice, "GET", "/payments/payout", None),
        (alice, "PUT", "/payments/payout", {"automatic": True}),
        (alice, "POST", "/payments/deposits", {"rawTx": "00"}),
    ):
        unknown = await site.call(None, method, path, json=body, headers=key)
        refused(unknown, 401, "token_required")
        built = await site.call(who, method, path, json=body, headers=key)
        refused(built, 501, "not_built_yet")
    without_key = await site.call(alice, "POST", "/payments/withdrawals", json=withdrawal)
    refused(without_key, 422, "invalid_request")
    notice = {"txid": "ab" * 32, "txStatus": "MINED"}
    callback = "/payments/arc/callback"
    refused(await site.call(None, "POST", callback, json=notice), 401, "token_invalid")
    told = {"Authorization": "Bearer the token that arc has"}
    answer = await site.call(None, "POST", callback, json=notice, headers=told)
    refused(answer, 501, "not_built_yet")


async def test_the_first_calls_of_a_user_may_come_at_once(books: Books) -> None:
    issuer = TestIssuer()
    newcomers = [issuer.principal(wallet=f"1Newcomer{number}") for number in range(30)]
    for who in newcomers:
        processes = [Acquaintance(books.database) for _ in range(4)]
        accounts = await asyncio.gather(*[each.meet(who) for each in processes])
        assert len(set(accounts)) == 1
