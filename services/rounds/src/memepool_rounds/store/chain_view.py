"""What the follower has seen: the source's word, its failures, and past reorganisations."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from memepool_common.db import Session


@dataclass(frozen=True, slots=True)
class FollowerView:
    """The last poll. `failing_since` is None while polls succeed."""

    source_height: int | None
    source_hash: str | None
    polled_at: datetime
    last_error: str | None
    failing_since: datetime | None


@dataclass(frozen=True, slots=True)
class Reorganisation:
    """The active branch was left at `fork_height` for another one; `depth` blocks went stale."""

    at: datetime
    fork_height: int
    depth: int
    old_tip: str
    new_tip: str


async def view(session: Session) -> FollowerView | None:
    """The last poll, or None before the first."""
    query = text(
        "select source_height, source_hash, polled_at, last_error, failing_since from follower"
    )
    row = (await session.execute(query)).one_or_none()
    return None if row is None else FollowerView(*row)


async def note_success(session: Session, height: int, block_hash: str, now: datetime) -> None:
    """The source answered."""
    query = text(
        "insert into follower (source_height, source_hash, polled_at) values (:height, :hash, :now)"
        " on conflict (only_row) do update set source_height = :height, source_hash = :hash,"
        " polled_at = :now, last_error = null, failing_since = null"
    )
    await session.execute(query, {"height": height, "hash": block_hash, "now": now})


async def note_failure(session: Session, error: str, now: datetime) -> datetime:
    """The source did not answer, or not usably; returns since when."""
    query = text(
        "insert into follower (polled_at, last_error, failing_since) values (:now, :error, :now)"
        " on conflict (only_row) do update set polled_at = :now, last_error = :error,"
        " failing_since = coalesce(follower.failing_since, :now) returning failing_since"
    )
    since: datetime = (await session.execute(query, {"error": error, "now": now})).scalar_one()
    return since


async def note_reorganisation(session: Session, reorganisation: Reorganisation) -> None:
    """Keep a reorganisation for those who look."""
    query = text(
        "insert into reorganisation (at, fork_height, depth, old_tip, new_tip)"
        " values (:at, :fork_height, :depth, :old_tip, :new_tip)"
    )
    values = {
        "at": reorganisation.at,
        "fork_height": reorganisation.fork_height,
        "depth": reorganisation.depth,
        "old_tip": reorganisation.old_tip,
        "new_tip": reorganisation.new_tip,
    }
    await session.execute(query, values)


async def recent_reorganisations(session: Session, limit: int) -> list[Reorganisation]:
    """The latest ones first."""
    query = text(
        "select at, fork_height, depth, old_tip, new_tip from reorganisation"
        " order by seq desc limit :limit"
    )
    return [Reorganisation(*row) for row in await session.execute(query, {"limit": limit})]


async def header_bytes(session: Session, block_hash: str) -> bytes:
    """The 80 bytes of a header that is stored."""
    query = text("select raw from chain_header where hash = :hash")
    return bytes((await session.execute(query, {"hash": block_hash})).scalar_one())


async def line_of(session: Session, block_hash: str, *, down_to: int) -> list[bytes]:
    """The headers from a height up to a block, by their links: on whatever branch it is."""
    query = text(
        "with recursive line as (select prev_hash, height, raw from chain_header where hash = :hash"
        " union all select h.prev_hash, h.height, h.raw from line l"
        " join chain_header h on h.hash = l.prev_hash where l.height > :down_to)"
        " select raw from line order by height"
    )
    found = await session.execute(query, {"hash": block_hash, "down_to": down_to})
    return [bytes(raw) for raw in found.scalars()]
