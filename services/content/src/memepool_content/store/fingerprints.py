"""PDQ fingerprints: what the near-duplicate index is filled from."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text

from memepool_common.db import Session

_LOCK = text("select pg_advisory_xact_lock(hashtext('content.fingerprint'))")
_AFTER = text("select seq, pdq from fingerprint where seq > :seq order by seq limit :limit")
_ADD = text("insert into fingerprint (content_id, pdq) values (:content_id, :pdq)")
_MEMES = text(
    "select content_id from fingerprint where seq = any(:seqs) and content_id <> :content_id"
    " order by seq limit 1"
)


async def lock(session: Session) -> None:
    """Until the commit, nobody else adds: what is compared now stays all there is."""
    await session.execute(_LOCK)


async def after(session: Session, seq: int, limit: int) -> list[tuple[int, bytes]]:
    """The next fingerprints behind `seq`."""
    rows = (await session.execute(_AFTER, {"seq": seq, "limit": limit})).all()
    return [(row.seq, bytes(row.pdq)) for row in rows]


async def add(session: Session, content_id: UUID, pdq: bytes) -> None:
    """A fingerprint of an image that is shown from this commit on."""
    await session.execute(_ADD, {"content_id": content_id, "pdq": pdq})


async def first_other(session: Session, seqs: Sequence[int], content_id: UUID) -> UUID | None:
    """The first of these fingerprints' memes that is not `content_id`."""
    values = {"seqs": list(seqs), "content_id": content_id}
    return (await session.execute(_MEMES, values)).scalar_one_or_none()
