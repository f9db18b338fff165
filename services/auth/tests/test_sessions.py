"""Sessions over HTTP: opening, refreshing, listing, ending; and what every process then knows."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest

from services.auth.tests.harness import Owner, Replica, SignedIn, Start, Wallet, assert_problem

pytestmark = pytest.mark.asyncio(loop_scope="module")

SESSION, VERIFY = "/auth/session", "/auth/verify"


async def grant(auth: Replica, wallet: Wallet | None = None) -> str:
    answer = await auth.http.post(VERIFY, json=await auth.prove(wallet or Wallet()))
    return str(answer.json()["grant"])


async def open_with(auth: Replica, **body: Any) -> httpx.Response:
    return await auth.http.post(SESSION, json=body)


async def test_a_grant_opens_one_session(auth: Replica) -> None:
    wallet = Wallet()
    ticket = await grant(auth, wallet)
    answer = await open_with(auth, grant=ticket)
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json()
    assert set(body) == {
        "accessToken",
        "tokenType",
        "expiresIn",
        "refreshToken",
        "session",
        "user",
    }
    assert (body["tokenType"], body["expiresIn"]) == ("Bearer", 300)
    assert body["session"]["current"] is True
    me = await auth.me(SignedIn(wallet, body))
    assert me.status_code == 200
    assert me.json() == body["user"]
    again = await open_with(auth, grant=ticket)
    assert_problem(again, 401, "grant_used")
    assert again.headers["WWW-Authenticate"] == "Bearer"


async def test_grants_unknown_and_expired(auth: Replica, as_owner: Owner) -> None:
    assert_problem(await open_with(auth, grant="nobody-gave-this"), 401, "grant_unknown")
    ticket = await grant(auth)
    await as_owner("update sign_in_grant set expires_at = now()")
    assert_problem(await open_with(auth, grant=ticket), 401, "grant_expired")


async def test_one_grant_serves_one_of_many_attempts_on_two_replicas(start: Start) -> None:
    replicas = [await start(), await start()]
    ticket = await grant(replicas[0])
    answers = await asyncio.gather(*(open_with(replicas[i % 2], grant=ticket) for i in range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] + [401] * 9
    assert {a.json()["code"] for a in answers if a.status_code == 401} == {"grant_used"}


async def test_verifys_body_opens_a_session_or_brings_a_challenge(auth: Replica) -> None:
    wallet = Wallet()
    answer = await open_with(auth, walletAddress=wallet.address)
    given = assert_problem(answer, 401, "signature_required")["challenge"]
    signature = wallet.sign(given["message"])
    answer = await open_with(auth, walletAddress=wallet.address, signature=signature)
    assert answer.status_code == 201


async def test_a_session_needs_exactly_one_credential(auth: Replica) -> None:
    bodies: list[dict[str, str]] = [
        {},
        {"signature": "AAAA"},
        {"grant": "a", "refreshToken": "b"},
        {"grant": "a", "walletAddress": "b"},
    ]
    for credentials in bodies:
        assert_problem(await open_with(auth, **credentials), 422, "one_credential_required")
    for field in ("grant", "refreshToken"):
        values: list[Any] = ["", "x" * 257, 1, [], "a\x00"]
        for value in values:
            answer = await open_with(auth, **{field: value})
            problem = assert_problem(answer, 422, "invalid_request")
            assert problem["errors"][0]["pointer"] == f"/{field}"
    assert_problem(await open_with(auth, grant="a", cookie="yes"), 422, "invalid_request")


async def test_refresh_rotates_and_keeps_the_session(auth: Replica) -> None:
    client = await auth.sign_in()
    answer = await open_with(auth, refreshToken=client.answer["refreshToken"])
    assert answer.status_code == 201
    renewed = answer.json()
    assert renewed["session"]["id"] == client.session_id
    assert renewed["refreshToken"] != client.answer["refreshToken"]
    assert (await auth.me(SignedIn(client.wallet, renewed))).status_code == 200
    assert_problem(await open_with(auth, refreshToken="x"), 401, "refresh_token_unknown")


async def refresh(auth: Replica, token: str) -> httpx.Response:
    return await open_with(auth, refreshToken=token)


async def age_used_tokens(as_owner: Owner) -> None:
    """Let the grace for tokens that have been used run out."""
    await as_owner("update refresh_token set used_at = used_at - interval '6 s'")


async def test_a_lost_answer_can_be_asked_for_again_for_a_moment(
    auth: Replica, as_owner: Owner
) -> None:
    client = await auth.sign_in()
    first = client.answer["refreshToken"]
    second = (await refresh(auth, first)).json()["refreshToken"]
    again = await refresh(auth, first)
    assert (again.status_code, again.json()["refreshToken"]) == (201, second)
    assert (await auth.me(SignedIn(client.wallet, again.json()))).status_code == 200
    # It was the same successor, which is good once: there is never a second line of tokens.
    third = (await refresh(auth, second)).json()["refreshToken"]
    assert_problem(await refresh(auth, first), 401, "refresh_token_reused")
    assert_problem(await refresh(auth, third), 401, "session_ended")


async def test_only_the_token_before_the_newest_has_grace(auth: Replica) -> None:
    client = await auth.sign_in()
    tokens = [client.answer["refreshToken"]]
    for _ in range(2):
        tokens.append((await refresh(auth, tokens[-1])).json()["refreshToken"])
    assert (await refresh(auth, tokens[1])).json()["refreshToken"] == tokens[2]
    assert_problem(await refresh(auth, tokens[0]), 401, "refresh_token_reused")
    assert_problem(await refresh(auth, tokens[2]), 401, "session_ended")


async def test_a_refresh_token_reused_later_ends_its_family(auth: Replica, as_owner: Owner) -> None:
    client = await auth.sign_in()
    first = client.answer["refreshToken"]
    renewed = (await refresh(auth, first)).json()
    await age_used_tokens(as_owner)
    assert_problem(await refresh(auth, first), 401, "refresh_token_reused")
    newest = await refresh(auth, renewed["refreshToken"])
    assert_problem(newest, 401, "session_ended")
    await auth.until_refused(SignedIn(client.wallet, renewed))


async def test_tabs_that_refresh_at_once_go_on_with_one_token(
    start: Start, as_owner: Owner
) -> None:
    replicas = [await start(), await start()]
    client = await replicas[0].sign_in()
    token = client.answer["refreshToken"]
    answers = await asyncio.gather(*(refresh(replicas[i % 2], token) for i in range(8)))
    assert {answer.status_code for answer in answers} == {201}
    (successor,) = {answer.json()["refreshToken"] for answer in answers}
    assert (await refresh(replicas[0], successor)).status_code == 201
    dump = str(await as_owner("select r::text from refresh_token r"))
    assert successor not in dump


async def test_an_expired_session_cannot_be_refreshed(auth: Replica, as_owner: Owner) -> None:
    client = await auth.sign_in()
    await as_owner("update session set expires_at = now()")
    answer = await open_with(auth, refreshToken=client.answer["refreshToken"])
    assert_problem(answer, 401, "session_expired")


async def test_secrets_are_kept_as_hashes(auth: Replica, as_owner: Owner) -> None:
    client, ticket = await auth.sign_in(), await grant(auth)
    dump = str(await as_owner("select r::text from refresh_token r")) + str(
        await as_owner("select g::text from sign_in_grant g")
    )
    assert client.answer["refreshToken"] not in dump
    assert ticket not in dump


async def test_signing_out_is_felt_everywhere_within_a_second(start: Start) -> None:
    replicas = [await start(), await start()]
    client = await replicas[0].sign_in()
    ended = await replicas[0].http.delete(SESSION, headers=client.headers)
    assert (ended.status_code, ended.content) == (204, b"")
    await asyncio.gather(*(replica.until_refused(client) for replica in replicas))
    assert_problem(await replicas[1].me(client), 401, "session_ended")
    refresh = await open_with(replicas[1], refreshToken=client.answer["refreshToken"])
    assert_problem(refresh, 401, "session_ended")


async def test_sessions_are_listed_and_ended_one_by_one(auth: Replica) -> None:
    wallet = Wallet()
    clients = [await auth.sign_in(wallet) for _ in range(3)]
    mine = clients[0].headers
    page = (await auth.http.get("/auth/sessions?limit=2", headers=mine)).json()
    rest = await auth.http.get(f"/auth/sessions?cursor={page['nextCursor']}", headers=mine)
    listed = page["items"] + rest.json()["items"]
    assert [each["id"] for each in listed] == [client.session_id for client in reversed(clients)]
    assert [each["current"] for each in listed] == [False, False, True]
    assert rest.json()["nextCursor"] is None
    assert listed[0]["device"].startswith("python-httpx")
    assert listed[0]["addressPrefix"] == "127.0.0.0/24"

    path = f"/auth/sessions/{clients[1].session_id}"
    assert (await auth.http.delete(path, headers=mine)).status_code == 204
    assert_problem(await auth.http.delete(path, headers=mine), 410, "session_gone")
    await auth.until_refused(clients[1])
    assert (await auth.me(clients[2])).status_code == 200

    assert (await auth.http.delete("/auth/sessions", headers=mine)).status_code == 204
    await auth.until_refused(clients[2])
    assert (await auth.me(clients[0])).status_code == 200

    everything = await auth.http.delete("/auth/sessions?includeCurrent=true", headers=mine)
    assert everything.status_code == 204
    await auth.until_refused(clients[0])


async def test_somebody_elses_session_is_not_there(auth: Replica) -> None:
    client, other = await auth.sign_in(), await auth.sign_in()
    for session_id in (other.session_id, uuid4()):
        answer = await auth.http.delete(f"/auth/sessions/{session_id}", headers=client.headers)
        assert_problem(answer, 404, "session_not_found")
    answer = await auth.http.delete("/auth/sessions/7", headers=client.headers)
    assert_problem(answer, 422, "invalid_request")
    assert (await auth.me(other)).status_code == 200


async def test_bad_pages_are_named(auth: Replica) -> None:
    client = await auth.sign_in()
    for query, code in (
        ("limit=0", "invalid_request"),
        ("limit=101", "invalid_request"),
        ("limit=x", "invalid_request"),
        ("cursor=x", "invalid_cursor"),
        ("cursor=WzFd", "invalid_cursor"),
        ("cursor=%00", "invalid_cursor"),
    ):
        answer = await auth.http.get(f"/auth/sessions?{query}", headers=client.headers)
        assert_problem(answer, 422, code)


async def test_calls_of_the_signed_in_need_a_good_token(auth: Replica) -> None:
    client = await auth.sign_in()
    calls = [
        ("DELETE", SESSION),
        ("GET", "/auth/sessions"),
        ("DELETE", "/auth/sessions"),
        ("DELETE", f"/auth/sessions/{client.session_id}"),
        ("GET", "/auth/me"),
        ("PATCH", "/auth/me"),
        ("GET", f"/auth/users/{client.user_id}"),
        ("GET", "/auth/audit"),
    ]
    head, _, tail = client.answer["accessToken"].rpartition(".")
    forged = f"{head}.{'A' * len(tail)}"
    unsigned = jwt.encode({"sub": "x"}, "", "none")
    for method, path in calls:
        body: dict[str, str] | None = {} if method == "PATCH" else None
        answer = await auth.http.request(method, path, json=body)
        assert_problem(answer, 401, "token_required")
        for token in (forged, unsigned, "x", "x" * 5_000):
            headers = {"Authorization": f"Bearer {token}"}
            answer = await auth.http.request(method, path, headers=headers, json=body)
            assert_problem(answer, 401, "token_invalid")


async def test_the_oldest_session_makes_room_for_the_newest(start: Start, as_owner: Owner) -> None:
    auth = await start()
    wallet = Wallet()
    client = await auth.sign_in(wallet)
    await as_owner(
        "insert into session select gen_random_uuid(), user_id, device, address_prefix,"
        " created_at, last_used_at + interval '1 s', expires_at, tokens_expire_at"
        " from session, generate_series(1, 49)"
    )
    await auth.sign_in(wallet)
    (row,) = await as_owner(
        "select end_reason from session where id = cast(:id as uuid)", id=client.session_id
    )
    assert row.end_reason == "too_many_sessions"


async def test_ends_are_announced_and_written_down(start: Start, as_owner: Owner) -> None:
    auth = await start()
    client = await auth.sign_in()
    await auth.http.delete(SESSION, headers=client.headers)
    events = await as_owner("select event_type, audience from outbox order by seq")
    assert [row.event_type for row in events] == [
        "memepool.auth.user.registered.v1",
        "memepool.auth.session.ended.v1",
    ]
    assert {row.audience for row in events} == {client.user_id}
    lines = await as_owner("select action, address from audit_log order by id")
    assert [row.action for row in lines] == [
        "auth.user.registered",
        "auth.session.opened",
        "auth.session.ended",
    ]
    assert {row.address for row in lines} == {"127.0.0.0/24"}


async def test_a_commit_that_fails_is_a_500_and_changes_nothing(
    start: Start, as_owner: Owner
) -> None:
    auth = await start()
    ticket = await grant(auth)
    await as_owner(
        "create function fail() returns trigger language plpgsql as"
        " $$ begin raise exception 'no commit'; end $$"
    )
    await as_owner(
        "create constraint trigger fail_at_commit after insert on session"
        " deferrable initially deferred for each row execute function fail()"
    )
    assert_problem(await open_with(auth, grant=ticket), 500, "internal_error")
    assert (await as_owner("select count(*) as n from session"))[0].n == 0
    assert (await as_owner("select count(*) as n from refresh_token"))[0].n == 0
    await as_owner("drop trigger fail_at_commit on session")
    await as_owner(
        "create constraint trigger fail_at_commit after update on session"
        " deferrable initially deferred for each row execute function fail()"
    )
    client = (await open_with(auth, grant=ticket)).json()  # the grant had not been used up
    headers = {"Authorization": f"Bearer {client['accessToken']}"}
    assert_problem(await auth.http.delete(SESSION, headers=headers), 500, "internal_error")
    await as_owner("drop trigger fail_at_commit on session")
    assert (await auth.http.delete(SESSION, headers=headers)).status_code == 204
