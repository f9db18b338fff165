"""Signing keys: sealed at rest, made once, rotated with overlap."""

import asyncio
from collections.abc import Awaitable, Callable

import jwt
import pytest

from memepool_auth.adapters.sealing import SealError, seal, unseal
from memepool_auth.store import keys as store
from memepool_auth.use_cases.keys import KeyRing, ensure_signing_key, rotate
from memepool_common.db import Database
from services.auth.tests.harness import Owner, Replica, SignedIn

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
Databases = Callable[..., Awaitable[Database]]


def test_a_sealed_key_opens_with_its_key_and_id_only() -> None:
    sealed = seal(b"secret", KEY, "kid-1")
    assert unseal(sealed, KEY, "kid-1") == b"secret"
    assert b"secret" not in sealed
    assert sealed != seal(b"secret", KEY, "kid-1")
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for box, key, kid in (
        (sealed, OTHER_KEY, "kid-1"),
        (sealed, KEY, "x"),
        (changed, KEY, "kid-1"),
    ):
        with pytest.raises(SealError):
            unseal(box, key, kid)


async def test_of_processes_that_start_at_once_one_makes_the_key(database_for: Databases) -> None:
    database = await database_for("auth")

    async def ensure() -> None:
        async with database.transaction() as session:
            await ensure_signing_key(session, KEY)

    await asyncio.gather(*(ensure() for _ in range(4)))
    async with database.read() as session:
        assert len(await store.published(session)) == 1


async def test_another_encryption_key_is_noticed_at_start(database_for: Databases) -> None:
    database = await database_for("auth")
    async with database.transaction() as session:
        await ensure_signing_key(session, KEY)
    with pytest.raises(SealError):
        async with database.transaction() as session:
            await ensure_signing_key(session, OTHER_KEY)


async def test_the_published_keys_check_the_tokens(auth: Replica) -> None:
    client = await auth.sign_in()
    answer = await auth.http.get("/.well-known/jwks.json")
    (jwk,) = answer.json()["keys"]
    assert set(jwk) == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    authn = auth.settings.authn
    token = client.answer["accessToken"]
    assert jwt.get_unverified_header(token)["kid"] == jwk["kid"]
    claims = jwt.decode(
        token, jwt.PyJWK(jwk).key, ["ES256"], audience=authn.audience, issuer=authn.issuer
    )
    assert claims["sub"] == client.user_id
    assert claims["exp"] - claims["iat"] <= 300


async def test_a_key_is_published_before_it_signs_and_after_it_has(
    auth: Replica, as_owner: Owner
) -> None:
    client = await auth.sign_in()
    database = Database.connect(auth.settings.database)
    async with database.transaction() as session:
        await rotate(session, KEY)
    ring = KeyRing(database, KEY)
    old, new = await ring.published()
    assert (await ring.signing()).kid == old.kid
    await as_owner("update signing_key set signs_from = now() where kid = :kid", kid=new.kid)
    ring = KeyRing(database, KEY)
    assert (await ring.signing()).kid == new.kid
    await asyncio.sleep(1.1)  # the life of the key ring of the running process
    renewed = await auth.http.post(
        "/auth/session", json={"refreshToken": client.answer["refreshToken"]}
    )
    token = renewed.json()["accessToken"]
    assert jwt.get_unverified_header(token)["kid"] == new.kid
    for current in (client, SignedIn(client.wallet, renewed.json())):
        assert (await auth.me(current)).status_code == 200
    await as_owner("update signing_key set published_until = now() where kid = :kid", kid=old.kid)
    assert [key.kid for key in await KeyRing(database, KEY).published()] == [new.kid]
    await database.close()
