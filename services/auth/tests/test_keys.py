"""Signing keys: sealed at rest, made once, rotated with overlap."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta

import jwt
import pytest
from sqlalchemy import text

from memepool_auth.adapters.sealing import SealError
from memepool_auth.commands import rotate_keys
from memepool_auth.store import keys as store
from memepool_auth.use_cases.keys import ensure_signing_key, rotate_if_due
from memepool_common.db import Database
from memepool_common.testing import until
from services.auth.tests.harness import Owner, Replica, SignedIn, Start

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
JWKS = "/.well-known/jwks.json"
Databases = Callable[..., Awaitable[Database]]


@pytest.mark.asyncio(loop_scope="function")
async def test_of_processes_that_start_at_once_one_makes_the_key(database_for: Databases) -> None:
    database = await database_for("auth")

    async def ensure() -> None:
        async with database.transaction() as session:
            await ensure_signing_key(session, KEY)

    await asyncio.gather(*(ensure() for _ in range(4)))
    async with database.read() as session:
        assert len(await store.published(session)) == 1


@pytest.mark.asyncio(loop_scope="function")
async def test_another_encryption_key_is_noticed_at_start(database_for: Databases) -> None:
    database = await database_for("auth")
    async with database.transaction() as session:
        await ensure_signing_key(session, KEY)
    with pytest.raises(SealError):
        async with database.transaction() as session:
            await ensure_signing_key(session, OTHER_KEY)


@pytest.mark.asyncio(loop_scope="function")
async def test_the_schedule_rotates_once_when_a_key_is_old(database_for: Databases) -> None:
    database = await database_for("auth")
    month = timedelta(days=30)

    async def check() -> str | None:
        async with database.transaction() as session:
            return await rotate_if_due(session, KEY, month)

    async with database.transaction() as session:
        await ensure_signing_key(session, KEY)
    assert await check() is None
    async with database.transaction() as session:
        await session.execute(text("update signing_key set signs_from = now() - interval '31 d'"))
    rotated = await asyncio.gather(*(check() for _ in range(4)))
    (kid,) = filter(None, rotated)
    async with database.read() as session:
        assert [key.kid for key in await store.published(session)][1:] == [kid]
        logged = text("select action, subject, details->>'trigger' from audit_log")
        assert (await session.execute(logged)).all() == [
            ("auth.signing_key.rotated", kid, "schedule")
        ]


async def test_the_command_rotates(auth: Replica) -> None:
    before = {key["kid"] for key in (await auth.http.get(JWKS)).json()["keys"]}
    line = await rotate_keys(auth.settings)
    assert "signs in 30 s" in line

    async def published() -> bool:
        keys = (await auth.http.get(JWKS)).json()["keys"]
        return before < {key["kid"] for key in keys} and keys[-1]["kid"] in line

    await until(published)


async def test_the_command_is_on_the_command_line(auth: Replica) -> None:
    database, authn = auth.settings.database, auth.settings.authn
    given = {
        "DATABASE__URL": database.url.get_secret_value(),
        "DATABASE__APP_ROLE": database.app_role,
        "AUTHN__INTERNAL_URL": authn.internal_url,
        "SIGN_IN__DOMAIN": "memepool.test",
        "KEYS__ENCRYPTION_KEY": auth.settings.keys.encryption_key.get_secret_value(),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "memepool_auth", "rotate-keys"),
        env=os.environ | {f"MEMEPOOL_AUTH_{name}": value for name, value in given.items()},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    kid = printed.decode().split()[1]
    async with asyncio.timeout(60):
        while kid not in {key["kid"] for key in (await auth.http.get(JWKS)).json()["keys"]}:
            await asyncio.sleep(0.1)


async def test_the_published_keys_check_the_tokens(auth: Replica) -> None:
    client = await auth.sign_in()
    answer = await auth.http.get(JWKS)
    token = client.answer["accessToken"]
    kid = jwt.get_unverified_header(token)["kid"]
    (jwk,) = (key for key in answer.json()["keys"] if key["kid"] == kid)
    assert set(jwk) == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    authn = auth.settings.authn
    claims = jwt.decode(
        token, jwt.PyJWK(jwk).key, ["ES256"], audience=authn.audience, issuer=authn.issuer
    )
    assert claims["sub"] == client.user_id
    assert claims["exp"] - claims["iat"] <= 300


def key_of(client: SignedIn) -> str:
    """The id of the key that signed a client's token."""
    kid: str = jwt.get_unverified_header(client.answer["accessToken"])["kid"]
    return kid


async def test_a_rotation_is_felt_by_nobody(start: Start, as_owner: Owner) -> None:
    """A key is published before it signs and after it has, by two replicas that read it in turn."""
    replicas = [await start(), await start()]
    clients = [await replica.sign_in() for replica in replicas]
    (old,) = {key_of(client) for client in clients}
    new = (await rotate_keys(replicas[0].settings)).split()[1]
    later = "update signing_key set signs_from = now() + interval '1 hour' where kid = :kid"
    await as_owner(later, kid=new)  # a slow machine is not to overtake the lead of 30 s

    async def all_come_in() -> bool:
        answers = [await replica.me(client) for replica in replicas for client in clients]
        return {answer.status_code for answer in answers} == {200}

    async def published_by_all(*kids: str) -> bool:
        documents = [(await replica.http.get(JWKS)).json() for replica in replicas]
        return all({key["kid"] for key in each["keys"]} == set(kids) for each in documents)

    await until(lambda: published_by_all(old, new))
    clients += [await replica.sign_in() for replica in replicas]
    assert {key_of(client) for client in clients} == {old}
    await as_owner("update signing_key set signs_from = now() where kid = :kid", kid=new)
    for replica in replicas:
        clients.append(await replica.sign_in())
        while key_of(clients[-1]) != new:
            assert await all_come_in()
            clients.append(await replica.sign_in())
    assert {key_of(client) for client in clients} == {old, new}
    assert await all_come_in()
    await as_owner("update signing_key set published_until = now() where kid = :kid", kid=old)
    await until(lambda: published_by_all(new))
