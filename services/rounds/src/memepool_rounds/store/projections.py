"""What rounds knows of memes and users, from their services' events. Newer versions win; a
removal is final."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text

from memepool_common.db import Session


@dataclass(frozen=True, slots=True)
class Meme:
    """A meme that content has published. `version` is the image's, `revision` the projection's."""

    content_id: UUID
    creator_id: UUID
    version: int
    sha256: str
    removed: bool
    revision: int


async def meme(session: Session, content_id: UUID, *, lock: bool = False) -> Meme | None:
    """A meme, or None if content has not told of it; locked against its removal if asked."""
    query = (
        "select content_id, creator_id, version, sha256, removed, revision from meme"
        " where content_id = :id"
    )
    found = await session.execute(text(query + " for share" * lock), {"id": content_id})
    row = found.one_or_none()
    return None if row is None else Meme(*row)


async def save_memes(session: Session, memes: Sequence[Meme]) -> None:
    """Take over projections that are newer than what is known; a removed meme stays removed."""
    query = text(
        "insert into meme (content_id, creator_id, version, sha256, removed, revision)"
        " values (:content_id, :creator_id, :version, :sha256, :removed, :revision)"
        " on conflict (content_id) do update set version = excluded.version,"
        " sha256 = excluded.sha256, removed = excluded.removed, revision = excluded.revision"
        " where not meme.removed and (excluded.removed or meme.revision < excluded.revision)"
    )
    rows = [
        {
            "content_id": each.content_id,
            "creator_id": each.creator_id,
            "version": each.version,
            "sha256": each.sha256,
            "removed": each.removed,
            "revision": each.revision,
        }
        for each in sorted(memes, key=lambda each: each.content_id)
    ]
    await session.execute(query, rows)


async def suspended(session: Session, user_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these users who are suspended; who is unknown is not."""
    query = text("select user_id from account where user_id = any(:ids) and suspended")
    return set((await session.execute(query, {"ids": list(user_ids)})).scalars())


async def save_account(session: Session, user_id: UUID, revision: int, *, suspended: bool) -> None:
    """Take over a user's projection if it is newer."""
    query = text(
        "insert into account (user_id, suspended, revision) values (:id, :suspended, :revision)"
        " on conflict (user_id) do update set suspended = excluded.suspended,"
        " revision = excluded.revision where account.revision < excluded.revision"
    )
    await session.execute(query, {"id": user_id, "suspended": suspended, "revision": revision})
