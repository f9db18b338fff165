"""Sessions of browsers: a cookie that other sites cannot use."""

from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest

from services.auth.tests.harness import Replica, SignedIn, Start, Wallet, assert_problem

pytestmark = pytest.mark.asyncio(loop_scope="module")
SESSION, NAME = "/auth/session", "__Host-memepool-refresh"
OURS = ("Origin", "https://memepool.test")


async def post(
    auth: Replica, body: dict[str, Any], *headers: tuple[str, str], cookie: str | None = None
) -> httpx.Response:
    sent = [*headers, *([("Cookie", f"{NAME}={cookie}")] if cookie else [])]
    return await auth.http.post(SESSION, json=body, headers=sent)


def cookie_of(answer: httpx.Response) -> Any:
    (header,) = answer.headers.get_list("set-cookie")
    return SimpleCookie(header)[NAME]


async def signed_in(auth: Replica) -> tuple[str, SignedIn]:
    """The refresh token that the browser holds, and the rest."""
    wallet = Wallet()
    answer = await post(auth, await auth.prove(wallet) | {"cookie": True}, OURS)
    assert answer.status_code == 201, answer.text
    return cookie_of(answer).value, SignedIn(wallet, answer.json())


async def test_the_refresh_token_travels_in_the_cookie_only(auth: Replica) -> None:
    answer = await post(auth, await auth.prove(Wallet()) | {"cookie": True}, OURS)
    cookie = cookie_of(answer)
    assert answer.json()["refreshToken"] is None
    assert len(cookie.value) >= 43
    assert (cookie["path"], cookie["samesite"], cookie["domain"]) == ("/", "Strict", "")
    assert cookie["secure"] is cookie["httponly"] is True
    assert 29 * 86_400 < int(cookie["max-age"]) <= 30 * 86_400
    assert cookie.value not in answer.text


async def test_the_cookie_alone_refreshes_and_is_replaced(auth: Replica) -> None:
    token, client = await signed_in(auth)
    answer = await post(auth, {"cookie": True}, OURS, cookie=token)
    assert answer.status_code == 201
    assert answer.json()["session"]["id"] == client.session_id
    assert answer.json()["refreshToken"] is None
    renewed = cookie_of(answer).value
    assert renewed != token
    # Two tabs: the other one's answer brings the same cookie.
    again = await post(auth, {"cookie": True}, OURS, cookie=token)
    assert cookie_of(again).value == renewed


FOREIGN: list[tuple[tuple[str, str], ...]] = [
    (),
    (("Origin", "null"),),
    (("Origin", ""),),
    (("Origin", "https://evil.example"),),
    (("Origin", "https://memepool.test.evil.example"),),
    (("Origin", "https://evil-memepool.test"),),
    (("Origin", "https://sub.memepool.test"),),
    (("Origin", "https://memepool.test:8443"),),
    (("Origin", "http://memepool.test"),),
    (("Origin", "https://memepool.test/"),),
    (("Origin", "https://MEMEPOOL.TEST"),),
    (("Origin", "https://memepool.test, https://evil.example"),),
    (("Origin", "https://memepool.test"), ("Origin", "https://evil.example")),
    (("Referer", "https://memepool.test/"),),
]


async def test_a_page_of_another_site_gets_nothing_and_changes_nothing(auth: Replica) -> None:
    token, _ = await signed_in(auth)
    proof = await auth.prove(Wallet())
    for headers in FOREIGN:
        # The victim's own session, and one of the attacker's that the victim would act in.
        for body in ({"cookie": True}, {"cookie": True, **proof}):
            answer = await post(auth, body, *headers, cookie=token)
            assert_problem(answer, 403, "origin_not_allowed")
            assert "set-cookie" not in answer.headers
    # Neither token nor nonce was used up.
    assert (await post(auth, {"cookie": True}, OURS, cookie=token)).status_code == 201
    assert (await post(auth, proof)).status_code == 201


async def test_what_a_form_can_send_is_no_request_of_ours(auth: Replica) -> None:
    token, _ = await signed_in(auth)
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        headers = [
            ("Cookie", f"{NAME}={token}"),
            ("Content-Type", content_type),
            ("Origin", "https://evil.example"),
        ]
        answer = await auth.http.post(SESSION, content=b'{"cookie": true}', headers=headers)
        assert answer.status_code in (403, 415, 422), answer.text
        assert "set-cookie" not in answer.headers


async def test_the_cookie_is_worth_nothing_anywhere_else(auth: Replica) -> None:
    token, client = await signed_in(auth)
    sent = [("Cookie", f"{NAME}={token}"), OURS]
    for method, path in (
        ("GET", "/auth/me"),
        ("PATCH", "/auth/me"),
        ("GET", "/auth/sessions"),
        ("DELETE", "/auth/sessions"),
        ("DELETE", SESSION),
        ("DELETE", f"/auth/sessions/{client.session_id}"),
    ):
        body = {"role": "creator"} if method == "PATCH" else None
        answer = await auth.http.request(method, path, headers=sent, json=body)
        assert_problem(answer, 401, "token_required")
    # Unasked for, it is not looked at.
    assert_problem(await post(auth, {}, OURS, cookie=token), 422, "one_credential_required")
    assert (await post(auth, {"cookie": True}, OURS, cookie=token)).status_code == 201


async def test_a_cookie_that_is_no_good_is_taken_away(auth: Replica) -> None:
    refused = await post(auth, {"cookie": True}, OURS, cookie="nobody-gave-this")
    assert_problem(refused, 401, "refresh_token_unknown")
    assert (cookie_of(refused).value, cookie_of(refused)["max-age"]) == ("", "0")
    assert_problem(await post(auth, {"cookie": True}, OURS), 401, "refresh_cookie_missing")


async def test_a_refusal_of_something_else_leaves_the_cookie(auth: Replica) -> None:
    token, client = await signed_in(auth)
    bad_proof = await auth.prove(client.wallet) | {"signature": Wallet().sign("another text")}
    for body in ({"grant": "x"}, {"refreshToken": "x"}, bad_proof):
        refused = await post(auth, {"cookie": True, **body}, OURS, cookie=token)
        assert refused.status_code == 401
        assert "set-cookie" not in refused.headers
    assert (await post(auth, {"cookie": True}, OURS, cookie=token)).status_code == 201


async def test_signing_out_takes_the_cookie_away(auth: Replica) -> None:
    token, client = await signed_in(auth)
    headers = [("Cookie", f"{NAME}={token}"), *client.headers.items()]
    answer = await auth.http.delete(SESSION, headers=headers)
    assert (answer.status_code, cookie_of(answer)["max-age"]) == (204, "0")
    refused = await post(auth, {"cookie": True}, OURS, cookie=token)
    assert_problem(refused, 401, "session_ended")


async def test_the_origins_may_be_set(start: Start) -> None:
    auth = await start(browser_origins=("http://127.0.0.1:8000",))
    body = await auth.prove(Wallet()) | {"cookie": True}
    assert_problem(await post(auth, body, OURS), 403, "origin_not_allowed")
    answer = await post(auth, body, ("Origin", "http://127.0.0.1:8000"))
    assert answer.status_code == 201
