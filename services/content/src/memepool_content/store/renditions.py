"""Renditions: variants as they were made first, and alternatives of them in other formats.

Whoever changes those of a meme has locked its row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

from sqlalchemy import Table, delete, insert, select, text

from memepool_common.db import Session
from memepool_content.domain.meme import PUBLIC, Status, Variant
from memepool_content.store.tables import alternative, variant

_SHOWN = text(
    "select content.status, made.mime_type, made.width, made.height, made.size_bytes, made.sha256"
    " from content left join lateral ("
    "   select 0 as place, mime_type, width, height, size_bytes, sha256 from variant"
    "   where content_id = content.id and name = :name"
    "   and version = coalesce(cast(:version as integer), content.version)"
    "   union all"
    "   select 1, mime_type, width, height, size_bytes, sha256 from alternative"
    "   where content_id = content.id and name = :name"
    "   and version = coalesce(cast(:version as integer), content.version)"
    " ) made on content.status = any(:public)"
    " where content.id = :content_id order by made.place, made.size_bytes"
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A variant of a meme: what may be shown of it, the one made first at the head."""

    removed: bool
    renditions: tuple[Variant, ...]


async def add(
    session: Session, content_id: UUID, version: int, variants: Iterable[Variant]
) -> None:
    """The renditions of a version."""
    await _insert(session, variant, content_id, version, variants)


async def add_alternatives(
    session: Session, content_id: UUID, version: int, variants: Iterable[Variant]
) -> None:
    """The same renditions in other formats."""
    await _insert(session, alternative, content_id, version, variants)


async def of_version(session: Session, content_id: UUID, version: int) -> list[Variant]:
    """The renditions of a version as they were made first; empty if the meme was removed."""
    query = select(variant).where(variant.c.content_id == content_id, variant.c.version == version)
    return [variant_of(row) for row in (await session.execute(query)).all()]


async def hashes_in_use(session: Session, content_id: UUID) -> set[str]:
    """The hashes of all that is stored of a meme, of all versions."""
    query = (
        select(variant.c.sha256)
        .where(variant.c.content_id == content_id)
        .union(select(alternative.c.sha256).where(alternative.c.content_id == content_id))
    )
    return set((await session.execute(query)).scalars())


async def remove(session: Session, content_id: UUID) -> set[str]:
    """Forget the renditions of all versions; returns the hashes of their bytes."""
    hashes = await hashes_in_use(session, content_id)
    await session.execute(delete(variant).where(variant.c.content_id == content_id))
    return hashes


async def shown(session: Session, content_id: UUID, name: str, version: int | None) -> Shown | None:
    """One variant of one version, the newest if None. None: there is no such meme."""
    values = {
        "content_id": content_id,
        "name": name,
        "version": version,
        "public": sorted(PUBLIC),
    }
    rows = (await session.execute(_SHOWN, values)).all()
    if not rows:
        return None
    return Shown(
        removed=rows[0].status == Status.REMOVED,
        renditions=tuple(
            Variant(name, row.mime_type, row.width, row.height, row.size_bytes, row.sha256)
            for row in rows
            if row.sha256 is not None
        ),
    )


def variant_of(row: object) -> Variant:
    """A row of either table."""
    return Variant(**{name: getattr(row, name) for name in Variant.__slots__})


async def _insert(
    session: Session,
    table: Table,
    content_id: UUID,
    version: int,
    variants: Iterable[Variant],
) -> None:
    identity = {"content_id": content_id, "version": version}
    rows: Sequence[dict[str, object]] = [{**identity, **asdict(item)} for item in variants]
    if rows:
        await session.execute(insert(table), list(rows))
