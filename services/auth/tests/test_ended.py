"""What every process reads of auth: the keys, and what ended."""

import asyncio
from uuid import UUID

import jwt
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from memepool_auth.store import users
from memepool_common.authstate import AuthState
from memepool_common.db import Database
from memepool_common.settings import DatabaseSettings
from memepool_common.testing import until
from memepool_common.tokens import TokenVerifier
from services.auth.tests.harness import Owner, Replica, Start, Wallet, assert_problem

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_who_starts_later_refuses_what_ended_before(start: Start) -> None:
    first = await start()
    client, suspended = await first.sign_in(), await first.sign_in()
    await first.http.delete("/auth/session", headers=client.headers)
    database = Database.connect(first.settings.database)
    async with database.transaction() as session:
        await users.revoke_tokens(session, UUID(suspended.user_id))
    await database.close()
    later = await start()  # returns once it is ready: from its first request on
    for ended in (client, suspended):
        assert_problem(await later.me(ended), 401, "session_ended")


async def test_the_snapshot_is_what_every_process_reads(auth: Replica, as_owner: Owner) -> None:
    client = await auth.sign_in()
    path = "/internal/auth-state"
    first = await auth.internal.get(path)
    known = {"If-None-Match": first.headers["ETag"]}
    assert (await auth.internal.get(path, headers=known)).status_code == 304
    await auth.http.delete("/auth/session", headers=client.headers)
    await auth.until_refused(client)
    second = await auth.internal.get(path, headers=known)
    assert second.status_code == 200
    state = AuthState()
    state.replace(second.json())
    claims = jwt.decode(client.answer["accessToken"], options={"verify_signature": False})
    authn = auth.settings.authn
    verifier = TokenVerifier(state, issuer=authn.issuer, audience=authn.audience)
    principal = verifier._decode(client.answer["accessToken"])
    assert str(principal.session_id) == claims["sid"] == client.session_id
    assert state.has_ended(principal.session_id, principal.user_id, principal.issued_at)
    # Once no token of it can live, the entry leaves.
    await as_owner("update session set tokens_expire_at = now() - interval '1 minute'")
    known = {"If-None-Match": second.headers["ETag"]}
    await asyncio.sleep(0.25)  # the snapshot's own lifetime
    third = await auth.internal.get(path, headers=known)
    state.replace(third.json())
    assert not state.has_ended(principal.session_id, principal.user_id, principal.issued_at)


async def test_a_flood_of_sign_ins_keeps_nobody_from_hearing_what_ended(
    start: Start, database_settings: DatabaseSettings
) -> None:
    auth = await start()
    client = await auth.sign_in()
    assert database_settings.owner_url is not None
    owner = create_async_engine(database_settings.owner_url.get_secret_value())
    asked = {"walletAddress": Wallet().address}
    async with owner.begin() as session:
        ended = "update session set ended_at = now(), end_reason = 'test'"
        await session.execute(text(ended))
    async with owner.begin() as session:
        await session.execute(text("lock table challenge in access exclusive mode"))
        flood = [
            asyncio.create_task(auth.http.post("/auth/challenge", json=asked))
            for _ in range(2 * database_settings.pool_size)
        ]
        busy = text("select count(*) from pg_locks where relation = 'challenge'::regclass")

        async def all_wait() -> bool:
            holders = (await session.execute(busy)).scalar_one()
            return bool(holders > database_settings.pool_size)

        async def heard() -> bool:
            state = AuthState()
            state.replace((await auth.internal.get("/internal/auth-state")).json())
            return UUID(client.session_id) in state._ended

        await until(all_wait)
        await until(heard)
        assert (await auth.internal.get("/readyz")).status_code == 200
        assert not any(each.done() for each in flood)
    answers = await asyncio.gather(*flood)
    assert {answer.status_code for answer in answers} == {201}
    await owner.dispose()


async def test_two_replicas_give_the_same_snapshot(start: Start) -> None:
    replicas = [await start(), await start()]
    client = await replicas[0].sign_in()
    await replicas[0].http.delete("/auth/session", headers=client.headers)
    await asyncio.gather(*(replica.until_refused(client) for replica in replicas))
    answers = [await replica.internal.get("/internal/auth-state") for replica in replicas]
    assert answers[0].headers["ETag"] == answers[1].headers["ETag"]
