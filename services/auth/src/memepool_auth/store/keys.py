"""Signing keys. Several are published at once while one takes over from another."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import text

from memepool_common.db import Session, Statement, run

_ADVISORY_LOCK = 7_222_001  # any constant: advisory locks are per database
_LOCK = text("select pg_advisory_xact_lock(:id)")
_PUBLISHED = """
select kid, public_jwk, sealed_private_key, signs_from from signing_key
where published_until is null or published_until > now() order by signs_from, kid
"""
_ADD = text("""
insert into signing_key (kid, public_jwk, sealed_private_key, signs_from)
values (:kid, cast(:public_jwk as jsonb), :sealed_private_key, now() + :lead)
""")
_RETIRE = text("""
update signing_key set published_until = now() + :overlap where published_until is null
""")
_NEWEST_IS_OLDER = text("select max(signs_from) < now() - :age from signing_key")


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it lies in the database: the private half is sealed."""

    kid: str
    public_jwk: dict[str, Any]
    sealed_private_key: bytes
    signs_from: datetime


async def lock(session: Session) -> None:
    """Be the only one who makes keys, until the transaction ends."""
    await session.execute(_LOCK, {"id": _ADVISORY_LOCK})


async def published(session: Session | Statement) -> list[StoredKey]:
    """The keys that verifiers are to know, oldest first."""
    rows = await run(session, _PUBLISHED)
    return [
        StoredKey(row.kid, row.public_jwk, bytes(row.sealed_private_key), row.signs_from)
        for row in rows
    ]


async def newest_is_older(session: Session, age: timedelta) -> bool:
    """Whether the newest key began to sign longer ago than this."""
    return bool((await session.execute(_NEWEST_IS_OLDER, {"age": age})).scalar_one())


async def retire(session: Session, overlap: timedelta) -> None:
    """Let the current keys be published for this long and no longer."""
    await session.execute(_RETIRE, {"overlap": overlap})


async def add(
    session: Session,
    kid: str,
    public_jwk: dict[str, Any],
    sealed_private_key: bytes,
    lead: timedelta,
) -> None:
    """Publish a key that signs from `lead` after now."""
    row = {
        "kid": kid,
        "public_jwk": orjson.dumps(public_jwk).decode(),
        "sealed_private_key": sealed_private_key,
        "lead": lead,
    }
    await session.execute(_ADD, row)
