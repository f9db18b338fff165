"""What a process knows of auth: how often it asks, what it believes, and for how long."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from prometheus_client import REGISTRY

from memepool_common import authstate
from memepool_common.authstate import SNAPSHOT_TYPE, AuthState
from memepool_common.settings import AuthnSettings
from memepool_common.testing import TestIssuer, stub_auth
from memepool_common.testing.tokens import AUDIENCE, ISSUER, KEY_ID
from memepool_common.tokens import TOKEN_TYPE, TokenVerifier
from memepool_common.web.problem import Problem


class Pauses:
    """Stands in for the poller's waiting: it goes on when the test says so."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._waiting = asyncio.Semaphore(0)
        self._go_on = asyncio.Semaphore(0)

    async def __call__(self, _stopping: asyncio.Event, seconds: float) -> None:
        self.seconds.append(seconds)
        self._waiting.release()
        await self._go_on.acquire()

    async def begun(self) -> None:
        """Return when the poller has asked and waits."""
        async with asyncio.timeout(10):
            await self._waiting.acquire()

    async def passed(self) -> None:
        """Let the wait be over; return when the poller has asked again."""
        self._go_on.release()
        await self.begun()

    def end(self) -> None:
        self._go_on.release()


@contextlib.asynccontextmanager
async def polling(state: AuthState, url: str, pauses: Pauses) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    settings = AuthnSettings(internal_url=url)
    poller = asyncio.create_task(authstate.poll(state, settings, stopping))
    yield
    stopping.set()
    pauses.end()
    await poller


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    found = Pauses()
    monkeypatch.setattr(authstate, "pause", found)
    return found


async def test_auth_is_asked_twice_a_second_and_each_answer_is_all_that_has_ended(
    pauses: Pauses,
) -> None:
    issuer, state = TestIssuer(), AuthState()
    first, second = issuer.principal(), issuer.principal()

    def ended() -> list[bool]:
        return [
            state.has_ended(each.session_id, each.user_id, each.issued_at)
            for each in (first, second)
        ]

    async with stub_auth(issuer) as url, polling(state, url, pauses):
        await pauses.begun()
        assert ended() == [False, False]
        issuer.end(first.session_id)
        await pauses.passed()
        assert ended() == [True, False]
        await pauses.passed()  # a 304
        issuer.end(first.session_id, users={second.user_id: datetime.now(UTC)})
        await pauses.passed()
        assert ended() == [True, True]
    assert set(pauses.seconds) == {0.5}


async def test_what_is_known_stays_while_auth_is_away_and_writes_are_refused_after_5_s(
    pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [100.0]
    monkeypatch.setattr(authstate, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    issuer = TestIssuer()
    gone, here = issuer.principal(), issuer.principal()
    issuer.end(gone.session_id)
    state = AuthState(stale_after_s=AuthnSettings(internal_url="http://x").stale_after_s)
    verifier = TokenVerifier(state, issuer=ISSUER, audience=AUDIENCE)
    headers = {each: [f"Bearer {issuer.token(each)}"] for each in (gone, here)}

    def refusal(method: str, headers: list[str]) -> str | None:
        try:
            verifier.admit(method, headers)
        except Problem as problem:
            return f"{problem.status} {problem.code}"
        return None

    assert refusal("GET", headers[here]) == "503 auth_unavailable"  # nobody has said anything yet
    assert refusal("GET", []) is None
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(stub_auth(issuer))
        away = contextlib.AsyncExitStack()
        await away.enter_async_context(polling(state, url, pauses))
        await pauses.begun()
        assert refusal("POST", headers[here]) is None
        await stack.aclose()
        for seconds_s, writes in ((5.0, None), (0.1, "503 auth_unavailable")):
            now_s[0] += seconds_s
            await pauses.passed()
            assert refusal("POST", headers[here]) == writes
        assert REGISTRY.get_sample_value("memepool_auth_silent_seconds") == pytest.approx(5.1)
        assert refusal("GET", headers[here]) is None
        assert refusal("GET", headers[gone]) == "401 session_ended"
        # A key that came while we heard nothing: to say that its token is bad would be a lie.
        newer = signed(issuer._key, {"kid": "new", "typ": TOKEN_TYPE}, **claims_of(issuer))
        assert refusal("GET", [f"Bearer {newer}"]) == "503 auth_unavailable"
        await away.aclose()


def signed(key: Any, headers: dict[str, Any], **claims: Any) -> str:
    return jwt.encode(claims, key, headers.pop("alg", "ES256"), headers=headers)


async def test_a_snapshot_that_is_none_changes_nothing() -> None:
    issuer, state = TestIssuer(), AuthState()
    state.replace(issuer.snapshot)
    stranger = ec.generate_private_key(ec.SECP256R1())
    empty: dict[str, Any] = {"sessions": [], "users": {}}
    for ended in (
        "x",
        issuer.token(issuer.principal()),  # signed by the right key, and something else
        signed(stranger, {"kid": KEY_ID, "typ": SNAPSHOT_TYPE}, **empty),
        signed(issuer._key, {"kid": "another", "typ": SNAPSHOT_TYPE}, **empty),
        signed(issuer._key, {"kid": KEY_ID, "typ": SNAPSHOT_TYPE}, sessions=["x"], users={}),
        signed("", {"kid": KEY_ID, "typ": SNAPSHOT_TYPE, "alg": "none"}, **empty),
    ):
        with pytest.raises((jwt.PyJWTError, ValueError, KeyError)):
            state.replace(issuer.snapshot | {"ended": ended})
    assert KEY_ID in state.keys


@pytest.fixture
def issuer() -> TestIssuer:
    return TestIssuer()


def claims_of(issuer: TestIssuer) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        issuer.token(issuer.principal("admin")), options={"verify_signature": False}
    )
    return claims


def forged_tokens(issuer: TestIssuer) -> dict[str, str]:
    """Tokens that a library may be talked into believing."""
    good = claims_of(issuer)
    key, head = issuer._key, {"kid": KEY_ID, "typ": TOKEN_TYPE}
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    now = datetime.now(UTC)
    by_secret = jwt.PyJWS()

    def with_secret(secret: bytes) -> str:
        # PyJWT itself refuses such a secret, so the signature is made beneath that check.
        signer = by_secret.get_algorithm_by_name("HS256")
        sections = [
            jwt.utils.base64url_encode(json.dumps(each).encode())
            for each in ({**head, "alg": "HS256"}, good)
        ]
        text = b".".join(sections)
        return b".".join([text, jwt.utils.base64url_encode(signer.sign(text, secret))]).decode()

    return {
        "no algorithm": signed("", {**head, "alg": "none"}, **good),
        "the public key as a secret": with_secret(pem),
        "another key under our key's name": signed(
            ec.generate_private_key(ec.SECP256R1()), {**head}, **good
        ),
        "a key of nobody's": signed(key, {**head, "kid": "x"}, **good),
        "no key": signed(key, {"typ": TOKEN_TYPE}, **good),
        "another type": signed(key, {"kid": KEY_ID, "typ": SNAPSHOT_TYPE}, **good),
        "the common type": signed(key, {"kid": KEY_ID, "typ": "JWT"}, **good),
        "another issuer": signed(key, {**head}, **good | {"iss": "evil"}),
        "another audience": signed(key, {**head}, **good | {"aud": "evil"}),
        "not yet": signed(key, {**head}, **good, nbf=now + timedelta(hours=1)),
        "no expiry": signed(key, {**head}, **{k: v for k, v in good.items() if k != "exp"}),
        "an expiry that is no time": signed(key, {**head}, **good | {"exp": "soon"}),
        "an expiry without end": signed(key, {**head}, **good | {"exp": 10**400}),
        "another role": signed(key, {**head}, **good | {"role": "root"}),
        "a subject that is no id": signed(key, {**head}, **good | {"sub": "../admin"}),
        "claims that are a list": f"{signed(key, {**head}, **good).split('.')[0]}.W10.AA",
        "a critical extension": signed(key, {**head, "crit": ["x"], "x": 1}, **good),
        "a key of its own": signed(
            ec.generate_private_key(ec.SECP256R1()), {**head, "jku": "https://evil"}, **good
        ),
    }


def test_a_token_is_void_once_its_key_is_gone(issuer: TestIssuer) -> None:
    """Also one that has been checked before: whoever stole a key writes any time of expiry."""
    lasting = replace(issuer.principal(), expires_at=datetime.now(UTC) + timedelta(days=365))
    token, verifier = issuer.token(lasting), issuer.verifier
    assert verifier.verify(token) == verifier.verify(token)
    issuer.end()  # a list of ended sessions changes no key
    assert verifier.verify(token).session_id == lasting.session_id
    issuer.state.replace(TestIssuer().snapshot)
    with pytest.raises(Problem, match="token_invalid"):
        verifier.verify(token)


def test_no_other_token_is_believed(issuer: TestIssuer) -> None:
    for token in forged_tokens(issuer).values():
        with pytest.raises(Problem, match="401 token_invalid"):
            issuer.verifier.verify(token)
    stale = claims_of(issuer) | {"exp": int(datetime.now(UTC).timestamp()) - 6}
    with pytest.raises(Problem, match="token_expired"):
        issuer.verifier.verify(signed(issuer._key, {"kid": KEY_ID, "typ": TOKEN_TYPE}, **stale))
