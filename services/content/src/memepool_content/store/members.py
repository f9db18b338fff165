"""What content knows of users: whether they are suspended. Fed by auth's events."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text

from memepool_common.db import Session

# A valid token is proof of its user: one not heard of yet is entered as version 0.
_PROVISION = text(
    "insert into member (user_id, suspended, version) values (:user_id, false, 0)"
    " on conflict do nothing"
)
_LOCK = text("select suspended from member where user_id = :user_id for update")
_PROJECT = text(
    "insert into member (user_id, suspended, version)"
    " select distinct on (user_id) user_id, suspended, version"
    " from unnest(cast(:users as uuid[]), cast(:suspended as boolean[]),"
    "   cast(:versions as bigint[])) as given (user_id, suspended, version)"
    " order by user_id, version desc"
    " on conflict (user_id) do update"
    " set suspended = excluded.suspended, version = excluded.version"
    " where member.version < excluded.version"
)


async def lock(session: Session, user_id: UUID) -> bool:
    """Whether the user is suspended; one user's uploads are admitted one after the other."""
    await session.execute(_PROVISION, {"user_id": user_id})
    return bool((await session.execute(_LOCK, {"user_id": user_id})).scalar_one())


async def project(session: Session, users: Sequence[tuple[UUID, bool, int]]) -> None:
    """Take over (user, suspended, version), each only if newer than what we know."""
    await session.execute(
        _PROJECT,
        {
            "users": [user for user, _, _ in users],
            "suspended": [suspended for _, suspended, _ in users],
            "versions": [version for _, _, version in users],
        },
    )
