"""Memes. Whoever changes a meme locks its row first."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert, or_, select, text, update

from memepool_common.db import Session
from memepool_content.domain.meme import PUBLIC, Meme, Status, Variant
from memepool_content.domain.transformation import Transformation
from memepool_content.store import transformations
from memepool_content.store.renditions import variant_of
from memepool_content.store.tables import content, variant

# Thumb first would be chance; clients read the list in this order.
_ORDER = {"full": 0, "preview": 1, "thumb": 2}
_JOINED = {"variants", "transformation"}
_FIELDS = [field.name for field in fields(Meme) if field.name not in _JOINED]


async def add(session: Session, meme: Meme) -> None:
    """A new row."""
    row = {name: getattr(meme, name) for name in _FIELDS}
    await session.execute(insert(content).values({**row, "tags": list(meme.tags)}))


async def get(session: Session, content_id: UUID, *, lock: bool = False) -> Meme | None:
    """A meme with the renditions of its version, or None. `lock`: for a change."""
    query = select(content).where(content.c.id == content_id)
    if lock:
        query = query.with_for_update()
    found = await _with_variants(session, (await session.execute(query)).all())
    return found[0] if found else None


async def change(session: Session, meme: Meme, now: datetime, **values: Any) -> Meme:
    """Write these columns of a locked meme; its revision rises. Returns it as it is now."""
    statement = (
        update(content)
        .where(content.c.id == meme.id)
        .values(**values, revision=content.c.revision + 1, updated_at=now)
        .returning(content)
    )
    row = (await session.execute(statement)).one()
    return (await _with_variants(session, [row]))[0]


async def page(
    session: Session,
    *,
    viewer_id: UUID | None,
    sees_all: bool,
    creator_id: UUID | None,
    status: Status | None,
    tag: str | None,
    before: UUID | None,
    limit: int,
) -> list[Meme]:
    """Memes that the viewer may see, newest first (ids rise with time); never removed ones."""
    query = select(content).where(content.c.status != Status.REMOVED)
    if not sees_all:
        public = content.c.status.in_(sorted(PUBLIC))
        query = query.where(or_(public, content.c.creator_id == viewer_id))
    if creator_id is not None:
        query = query.where(content.c.creator_id == creator_id)
    if status is not None:
        query = query.where(content.c.status == status)
    if tag is not None:
        query = query.where(content.c.tags.contains([tag]))
    if before is not None:
        query = query.where(content.c.id < before)
    rows = (await session.execute(query.order_by(content.c.id.desc()).limit(limit))).all()
    return await _with_variants(session, rows)


async def count_since(session: Session, creator_id: UUID, since: datetime) -> int:
    """How many uploads of a user were taken since then, whatever became of them."""
    query = text("select count(*) from content where creator_id = :creator and created_at > :since")
    found = await session.execute(query, {"creator": creator_id, "since": since})
    return int(found.scalar_one())


async def _with_variants(session: Session, rows: Sequence[Any]) -> list[Meme]:
    shown = [row.id for row in rows if row.sha256 is not None]
    by_version: dict[tuple[UUID, int], list[Variant]] = defaultdict(list)
    if shown:
        query = select(variant).where(variant.c.content_id.in_(shown))
        for row in (await session.execute(query)).all():
            by_version[row.content_id, row.version].append(variant_of(row))
    jobs = await transformations.by_ids(
        session, [row.transformation_id for row in rows if row.transformation_id is not None]
    )
    return [
        _meme(
            row,
            sorted(by_version[row.id, row.version], key=lambda item: _ORDER[item.name]),
            jobs.get(row.transformation_id),
        )
        for row in rows
    ]


def _meme(row: Any, variants: Sequence[Variant], job: Transformation | None) -> Meme:
    values = {name: getattr(row, name) for name in _FIELDS}
    values |= {"tags": tuple(row.tags), "status": Status(row.status)}
    return Meme(**values, variants=tuple(variants), transformation=job)
