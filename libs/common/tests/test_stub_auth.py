"""The stub of auth that the services' tests follow."""

import asyncio

import httpx

from memepool_common import authstate
from memepool_common.authstate import AuthState
from memepool_common.settings import AuthnSettings
from memepool_common.testing import TestIssuer, stub_auth, until
from memepool_common.testing.tokens import AUDIENCE, ISSUER
from memepool_common.tokens import TokenVerifier


async def test_a_follower_learns_keys_and_ended_sessions_from_the_stub() -> None:
    issuer, state, stopping = TestIssuer(), AuthState(), asyncio.Event()
    caller = issuer.principal()
    async with stub_auth(issuer) as url:
        settings = AuthnSettings(internal_url=url, poll_interval_s=0.01)
        poller = asyncio.create_task(authstate.poll(state, settings, stopping))
        await until(lambda: state.known)
        verifier = TokenVerifier(state, issuer=ISSUER, audience=AUDIENCE)
        assert verifier.verify(issuer.token(caller)).user_id == caller.user_id
        issuer.end(caller.session_id)
        await until(lambda: state.has_ended(caller.session_id, caller.user_id, caller.issued_at))
        stopping.set()
        await poller


async def test_an_unchanged_snapshot_is_a_304() -> None:
    issuer = TestIssuer()
    async with stub_auth(issuer) as url, httpx.AsyncClient(base_url=url) as client:
        first = await client.get("/internal/auth-state")
        known = {"If-None-Match": first.headers["ETag"]}
        assert (await client.get("/internal/auth-state", headers=known)).status_code == 304
        issuer.end()
        assert (await client.get("/internal/auth-state", headers=known)).status_code == 200
