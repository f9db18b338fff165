"""Profiles, roles and suspension over HTTP."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.auth.tests.harness import Owner, Replica, SignedIn, Start, Wallet, assert_problem

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def refreshed(auth: Replica, client: SignedIn) -> SignedIn:
    answer = await auth.http.post(
        "/auth/session", json={"refreshToken": client.answer["refreshToken"]}
    )
    assert answer.status_code == 201, answer.text
    return SignedIn(client.wallet, answer.json())


async def put_role(auth: Replica, admin: SignedIn, user_id: Any, role: Any) -> httpx.Response:
    path = f"/auth/users/{user_id}/role"
    return await auth.http.put(path, headers=admin.headers, json={"role": role})


async def test_a_viewer_becomes_a_creator_from_the_next_token_on(
    start: Start, as_owner: Owner
) -> None:
    auth = await start()
    client = await auth.sign_in()
    for _ in range(2):  # saying it twice changes nothing
        answer = await auth.http.patch(
            "/auth/me", headers=client.headers, json={"role": "creator", "unknown": 1}
        )
        assert (answer.status_code, answer.json()["role"]) == (200, "creator")
    assert (await refreshed(auth, client)).answer["user"]["role"] == "creator"
    versions = await as_owner(
        "select version from outbox where event_type = 'memepool.auth.user.updated.v1'"
    )
    assert [row.version for row in versions] == [2]


async def test_no_other_role_is_ones_own_to_take(auth: Replica) -> None:
    client = await auth.sign_in()

    async def patch(body: Any) -> httpx.Response:
        return await auth.http.patch("/auth/me", headers=client.headers, json=body)

    assert_problem(await patch({"role": "admin"}), 403, "role_not_self_assignable")
    for role in (None, "", "Creator", 1, True, ["creator"]):
        body = assert_problem(await patch({"role": role}), 422, "invalid_request")
        assert body["errors"][0]["pointer"] == "/role"
    assert (await patch({})).json()["role"] == "viewer"
    assert (await patch({"role": "creator"})).status_code == 200
    assert_problem(await patch({"role": "viewer"}), 403, "role_not_self_assignable")


async def test_profiles_are_for_the_signed_in(auth: Replica) -> None:
    client, other = await auth.sign_in(), await auth.sign_in()
    answer = await auth.http.get(f"/auth/users/{other.user_id}", headers=client.headers)
    assert answer.json() == other.answer["user"]
    answer = await auth.http.get(f"/auth/users/{uuid4()}", headers=client.headers)
    assert_problem(answer, 404, "user_not_found")
    answer = await auth.http.get("/auth/users/me", headers=client.headers)
    assert_problem(answer, 422, "invalid_request")


async def test_the_first_admin_comes_from_the_setting_once_in_either_form(
    start: Start, as_owner: Owner
) -> None:
    wallet, later = Wallet(), Wallet()
    auth = await start(first_admin=wallet.uncompressed_address)
    answers = await asyncio.gather(*(auth.sign_in(wallet) for _ in range(3)))
    assert all(client.answer["user"]["role"] == "admin" for client in answers)
    other = await start(first_admin=later.address)
    assert (await other.sign_in(later)).answer["user"]["role"] == "viewer"
    lines = await as_owner(
        "select account_id from audit_log where action = 'auth.first_admin.applied'"
    )
    assert [str(row.account_id) for row in lines] == [answers[0].user_id]


async def test_admins_calls_are_for_admins(auth: Replica) -> None:
    client = await auth.sign_in()
    role = {"json": {"role": "admin"}}
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", f"/auth/users/{client.user_id}/role", role),
        ("PUT", f"/auth/users/{client.user_id}/suspension", {"json": {}}),
        ("DELETE", f"/auth/users/{client.user_id}/suspension", {}),
    ]
    for method, path, body in calls:
        answer = await auth.http.request(method, path, **body)
        assert_problem(answer, 401, "token_required")
        answer = await auth.http.request(method, path, headers=client.headers, **body)
        assert_problem(answer, 403, "role_required")


async def test_bad_admin_calls_are_named(auth: Replica, admin_wallet: Wallet) -> None:
    admin, client = await auth.sign_in(admin_wallet), await auth.sign_in()
    assert_problem(await put_role(auth, admin, uuid4(), "creator"), 404, "user_not_found")
    for role in (None, "king", 1, ["admin"]):
        answer = await put_role(auth, admin, client.user_id, role)
        assert_problem(answer, 422, "invalid_request")
    for user_id, status, code in (
        (uuid4(), 404, "user_not_found"),
        ("7", 422, "invalid_request"),
    ):
        path = f"/auth/users/{user_id}/suspension"
        answer = await auth.http.put(path, headers=admin.headers, json={"reason": "spam"})
        assert_problem(answer, status, code)
        answer = await auth.http.delete(path, headers=admin.headers)
        assert_problem(answer, status, code)
    for reason in (1, "x" * 501, "a\x00", ["x"]):
        path = f"/auth/users/{client.user_id}/suspension"
        answer = await auth.http.put(path, headers=admin.headers, json={"reason": reason})
        assert_problem(answer, 422, "invalid_request")


async def test_a_demotion_voids_tokens_and_keeps_the_session(
    auth: Replica, admin_wallet: Wallet, as_owner: Owner
) -> None:
    admin, client = await auth.sign_in(admin_wallet), await auth.sign_in()
    assert (await put_role(auth, admin, client.user_id, "admin")).json()["role"] == "admin"
    assert (await auth.me(client)).status_code == 200  # a promotion voids nothing
    promoted = await refreshed(auth, client)
    assert (await put_role(auth, admin, client.user_id, "viewer")).json()["role"] == "viewer"
    await auth.until_refused(promoted)
    assert (await refreshed(auth, promoted)).answer["user"]["role"] == "viewer"
    (row,) = await as_owner(
        "select convert_from(payload, 'utf8')::jsonb as data from outbox"
        " where event_type = 'memepool.auth.session.ended.v1'"
    )
    assert row.data["sessionId"] is None
    assert row.data["notBefore"] is not None
    assert row.data["reason"] == "demoted"


async def test_a_token_of_a_lost_role_is_no_longer_good_for_admins_calls(
    auth: Replica, admin_wallet: Wallet
) -> None:
    admin, second = await auth.sign_in(admin_wallet), await auth.sign_in()
    await put_role(auth, admin, second.user_id, "admin")
    second = await refreshed(auth, second)
    await put_role(auth, admin, second.user_id, "viewer")
    # At once, before the list of voided tokens has reached anybody: the account decides.
    answer = await put_role(auth, second, admin.user_id, "viewer")
    assert answer.json()["code"] in {"role_required", "session_ended"}
    assert (await auth.me(admin)).json()["role"] == "admin"


async def test_no_token_of_a_lost_role_survives_a_refresh_at_the_same_moment(
    start: Start, admin_wallet: Wallet
) -> None:
    replicas = [await start(), await start()]
    admin, client = await replicas[0].sign_in(admin_wallet), await replicas[0].sign_in()
    for _ in range(5):
        await put_role(replicas[0], admin, client.user_id, "creator")
        client = await refreshed(replicas[0], client)
        demotion, client = await asyncio.gather(
            put_role(replicas[0], admin, client.user_id, "viewer"),
            refreshed(replicas[1], client),
        )
        assert demotion.status_code == 200
        if client.answer["user"]["role"] == "creator":
            await replicas[0].until_refused(client)
        else:
            assert (await replicas[0].me(client)).status_code == 200


async def test_suspension_and_refresh_at_once_leave_nobody_signed_in(
    start: Start, admin_wallet: Wallet
) -> None:
    replicas = [await start(), await start()]
    admin = await replicas[0].sign_in(admin_wallet)
    clients = [await replicas[0].sign_in() for _ in range(5)]

    async def suspend(client: SignedIn) -> httpx.Response:
        path = f"/auth/users/{client.user_id}/suspension"
        return await replicas[0].http.put(path, headers=admin.headers)

    async def refresh(client: SignedIn) -> httpx.Response:
        token = {"refreshToken": client.answer["refreshToken"]}
        return await replicas[1].http.post("/auth/session", json=token)

    suspensions, answers = await asyncio.gather(
        asyncio.gather(*map(suspend, clients)), asyncio.gather(*map(refresh, clients))
    )
    assert {answer.status_code for answer in suspensions} == {200}
    for client, answer in zip(clients, answers, strict=True):
        assert answer.status_code in {201, 401, 403}, answer.text
        if answer.status_code == 201:
            await replicas[1].until_refused(SignedIn(client.wallet, answer.json()))
        await replicas[1].until_refused(client)


async def test_a_suspended_user_is_out_until_the_suspension_is_lifted(
    auth: Replica, admin_wallet: Wallet
) -> None:
    admin, client = await auth.sign_in(admin_wallet), await auth.sign_in()
    path = f"/auth/users/{client.user_id}/suspension"
    answer = await auth.http.put(path, headers=admin.headers, json={"reason": "spam"})
    assert answer.status_code == 200
    assert (await auth.http.put(path, headers=admin.headers)).json() == answer.json()
    await auth.until_refused(client)
    token = {"refreshToken": client.answer["refreshToken"]}
    assert_problem(await auth.http.post("/auth/session", json=token), 401, "session_ended")
    proof = await auth.prove(client.wallet)
    answer = await auth.http.post("/auth/verify", json=proof)
    assert_problem(answer, 403, "account_suspended")
    for _ in range(2):
        lifted = await auth.http.delete(path, headers=admin.headers)
        assert lifted.status_code == 204
    back = await auth.sign_in(client.wallet)
    assert (back.user_id, (await auth.me(back)).status_code) == (client.user_id, 200)


async def test_a_grant_of_before_the_suspension_opens_nothing(
    auth: Replica, admin_wallet: Wallet
) -> None:
    admin, wallet = await auth.sign_in(admin_wallet), Wallet()
    verified = (await auth.http.post("/auth/verify", json=await auth.prove(wallet))).json()
    path = f"/auth/users/{verified['user']['id']}/suspension"
    await auth.http.put(path, headers=admin.headers)
    answer = await auth.http.post("/auth/session", json={"grant": verified["grant"]})
    assert_problem(answer, 403, "account_suspended")


async def test_the_last_admin_cannot_go(start: Start, admin_wallet: Wallet) -> None:
    auth = await start()
    admin = await auth.sign_in(admin_wallet)
    path = f"/auth/users/{admin.user_id}/suspension"
    assert_problem(await put_role(auth, admin, admin.user_id, "creator"), 409, "last_admin")
    assert_problem(await auth.http.put(path, headers=admin.headers), 409, "last_admin")
    assert (await put_role(auth, admin, admin.user_id, "admin")).status_code == 200


async def test_two_admins_cannot_remove_each_other(
    start: Start, admin_wallet: Wallet, as_owner: Owner
) -> None:
    replicas = [await start(), await start()]
    first, second = await replicas[0].sign_in(admin_wallet), await replicas[0].sign_in()
    await put_role(replicas[0], first, second.user_id, "admin")
    second = await refreshed(replicas[0], second)
    await asyncio.gather(
        put_role(replicas[0], first, second.user_id, "viewer"),
        put_role(replicas[1], second, first.user_id, "viewer"),
    )
    (row,) = await as_owner("select count(*) as n from app_user where role = 'admin'")
    assert row.n == 1


async def test_the_audit_feed_is_ones_own_and_all_of_it_for_admins(
    start: Start, admin_wallet: Wallet
) -> None:
    auth = await start()
    admin, client = await auth.sign_in(admin_wallet), await auth.sign_in()
    proof = await auth.prove(client.wallet)
    proof["signature"] = Wallet().sign("not the message")
    await auth.http.post("/auth/verify", json=proof)
    own = (await auth.http.get("/auth/audit", headers=client.headers)).json()["items"]
    assert [line["action"] for line in own] == [
        "auth.sign_in.refused",
        "auth.session.opened",
        "auth.user.registered",
    ]
    assert own[0]["outcome"] == "signature_mismatch"
    assert {line["accountId"] for line in own} == {client.user_id}
    every = (await auth.http.get("/auth/audit", headers=admin.headers)).json()["items"]
    assert len(every) == len(own) + 3
