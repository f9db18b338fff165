"""Grants, sessions and refresh tokens. Secrets are kept as SHA-256 only.

Locks are taken in one order: the user, then sessions by id.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from memepool_auth.domain.session import Session as SignInSession
from memepool_common.db import Session, Statement, run

_ADD_GRANT = text("""
insert into sign_in_grant (grant_hash, user_id, expires_at)
values (:grant_hash, :user_id, now() + :lifetime)
""")
_CONSUME_GRANT = text("""
update sign_in_grant set used_at = now()
where grant_hash = :grant_hash and used_at is null and expires_at > now() returning user_id
""")
_FIND_GRANT = text("""
select used_at is not null as used from sign_in_grant where grant_hash = :grant_hash
""")
_ADD = text("""
insert into session (id, user_id, device, address_prefix, created_at, last_used_at, expires_at,
  ended_at, tokens_expire_at)
values (:id, :user_id, :device, :address_prefix, :created_at, :last_used_at, :expires_at,
  :ended_at, :tokens_expire_at)
""")
_ADD_TOKEN = text("""
insert into refresh_token (token_hash, session_id, issued_at)
values (:token_hash, :session_id, clock_timestamp())
""")
_USER_OF_TOKEN = text("""
select s.user_id from refresh_token t join session s on s.id = t.session_id
where t.token_hash = :token_hash
""")
# Token and session in one statement: both rows are locked and read as they are after the wait.
_BY_TOKEN = text("""
select s.*, t.used_at as token_used_at, t.sealed_successor
from refresh_token t join session s on s.id = t.session_id
where t.token_hash = :token_hash for update
""")
_SPEND = text("""
update refresh_token set used_at = clock_timestamp(), sealed_successor = :sealed_successor
where token_hash = :token_hash
""")
_IS_UNUSED = text("select used_at is null from refresh_token where token_hash = :token_hash")
_USE = text("""
update session set last_used_at = :used_at, expires_at = :expires_at,
  tokens_expire_at = :tokens_expire_at, address_prefix = :address_prefix
where id = :id
""")
_LIVE = text("""
select s.* from session s
where s.user_id = :user_id and s.ended_at is null and s.expires_at > now()
  and (cast(:before as uuid) is null or s.id < :before)
order by s.id desc limit :limit
""")
_FIND = text("select s.* from session s where s.id = :id for update")
_LOCK_LIVE = text("""
select s.* from session s where s.user_id = :user_id and s.ended_at is null order by s.id for update
""")
_END = text("""
update session set ended_at = now(), end_reason = :reason
where id = any(:ids) and ended_at is null returning id
""")
_ENDED = """
select id from session
where ended_at is not null and tokens_expire_at > now() - %s order by id
"""


async def add_grant(
    session: Session, grant_hash: bytes, user_id: UUID, lifetime: timedelta
) -> None:
    """Keep a grant for a while."""
    given = {"grant_hash": grant_hash, "user_id": user_id, "lifetime": lifetime}
    await session.execute(_ADD_GRANT, given)


async def consume_grant(session: Session, grant_hash: bytes) -> UUID | None:
    """Use a grant up; whose it is, or None if it is not good. One attempt of many gets it."""
    consumed = await session.execute(_CONSUME_GRANT, {"grant_hash": grant_hash})
    return consumed.scalar_one_or_none()


async def grant_was_used(session: Session, grant_hash: bytes) -> bool | None:
    """Whether a grant has been used; None if there is none."""
    found = await session.execute(_FIND_GRANT, {"grant_hash": grant_hash})
    return found.scalar_one_or_none()


async def instant(session: Session) -> datetime:
    """This very instant by the clock that all replicas share, not the transaction's start."""
    now: datetime = (await session.execute(text("select clock_timestamp()"))).scalar_one()
    return now


async def add(session: Session, opened: SignInSession, tokens_expire_at: datetime) -> None:
    """Keep a new session."""
    await session.execute(_ADD, {**asdict(opened), "tokens_expire_at": tokens_expire_at})


async def add_refresh_token(session: Session, token_hash: bytes, session_id: UUID) -> None:
    """Make this the session's newest refresh token."""
    await session.execute(_ADD_TOKEN, {"token_hash": token_hash, "session_id": session_id})


async def user_of_refresh_token(session: Session, token_hash: bytes) -> UUID | None:
    """Whose refresh token it is; nothing is locked."""
    found = await session.execute(_USER_OF_TOKEN, {"token_hash": token_hash})
    return found.scalar_one_or_none()


async def by_refresh_token(
    session: Session, token_hash: bytes
) -> tuple[SignInSession, datetime | None, bytes | None] | None:
    """The session of a refresh token, when the token was used, and for what; both rows locked."""
    row = (await session.execute(_BY_TOKEN, {"token_hash": token_hash})).one_or_none()
    return (_session(row), row.token_used_at, row.sealed_successor) if row else None


async def is_unused(session: Session, token_hash: bytes) -> bool:
    """Whether a refresh token has not been used."""
    found = await session.execute(_IS_UNUSED, {"token_hash": token_hash})
    return bool(found.scalar_one_or_none())


async def spend(session: Session, token_hash: bytes, sealed_successor: bytes) -> None:
    """Note that a refresh token was exchanged for another one."""
    given = {"token_hash": token_hash, "sealed_successor": sealed_successor}
    await session.execute(_SPEND, given)


async def use(session: Session, renewed: SignInSession, tokens_expire_at: datetime) -> None:
    """Write down the session's use."""
    given = {
        "id": renewed.id,
        "used_at": renewed.last_used_at,
        "expires_at": renewed.expires_at,
        "address_prefix": renewed.address_prefix,
        "tokens_expire_at": tokens_expire_at,
    }
    await session.execute(_USE, given)


async def live(
    session: Session, user_id: UUID, limit: int, before: UUID | None
) -> list[SignInSession]:
    """The user's sessions that have neither ended nor expired, newest first."""
    given = {"user_id": user_id, "limit": limit, "before": before}
    return [_session(row) for row in await session.execute(_LIVE, given)]


async def find(session: Session, session_id: UUID) -> SignInSession | None:
    """A session, locked."""
    row = (await session.execute(_FIND, {"id": session_id})).one_or_none()
    return _session(row) if row else None


async def lock_live(session: Session, user_id: UUID) -> list[SignInSession]:
    """The user's sessions that have not ended, locked in the order of their ids."""
    return [_session(row) for row in await session.execute(_LOCK_LIVE, {"user_id": user_id})]


async def end(session: Session, ids: Sequence[UUID], reason: str) -> list[UUID]:
    """End these sessions; the ones that had not ended before."""
    ended = await session.execute(_END, {"ids": list(ids), "reason": reason})
    return list(ended.scalars())


async def ended_with_tokens(session: Statement, margin: timedelta) -> list[UUID]:
    """The ended sessions of which an access token may live, or did less than `margin` ago."""
    return [row.id for row in await run(session, _ENDED, [margin])]


def _session(row: Any) -> SignInSession:
    return SignInSession(
        row.id,
        row.user_id,
        row.device,
        row.address_prefix,
        row.created_at,
        row.last_used_at,
        row.expires_at,
        row.ended_at,
    )
