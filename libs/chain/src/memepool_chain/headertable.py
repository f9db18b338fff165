"""The two tables of the header store, and the statements on them. The rules are in headerstore."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from memepool_chain.header import Header, parse_header

GRANTS: Final = {
    "chain_header": "select, insert, update, delete",
    "chain_tip": "select, insert, update",
}
"""What the application role needs on each table."""

_DDL: Final = (
    """
    create table chain_header (
        hash text primary key,
        prev_hash text not null,
        height integer check (height >= 0),
        raw bytea not null check (length(raw) = 80),
        chainwork numeric,
        state text not null check (state in ('active', 'stale', 'orphan')),
        received_at timestamptz not null,
        check ((state = 'orphan') = (height is null)),
        check ((state = 'orphan') = (chainwork is null))
    )
    """,
    "create unique index chain_header_active on chain_header (height) where state = 'active'",
    "create index chain_header_orphan on chain_header (prev_hash) where state = 'orphan'",
    """
    create table chain_tip (
        only_row boolean primary key default true check (only_row),
        hash text not null references chain_header,
        height integer not null,
        chainwork numeric not null,
        version bigint not null
    )
    """,
)

State = Literal["active", "stale", "orphan"]


class SupportsExecute(Protocol):
    """What `create_table` needs of Alembic's `op`."""

    def execute(self, sqltext: str) -> object:
        """Run a statement."""


class NotInitializedError(RuntimeError):
    """`initialize` has not run on this database."""


class TipMovedError(RuntimeError):
    """The tip is no longer the one that was read; nothing was changed."""


@dataclass(frozen=True, slots=True)
class StoredHeader:
    """A header with what the store knows of it. An orphan has no height and no chainwork."""

    header: Header
    height: int | None
    chainwork: int | None
    state: State
    received_at: datetime

    @property
    def hash(self) -> str:
        """The block hash."""
        return self.header.hash


@dataclass(frozen=True, slots=True)
class Tip:
    """The last header of the active branch; `version` grows with every move."""

    hash: str
    height: int
    chainwork: int
    version: int


def create_table(op: SupportsExecute) -> None:
    """Create both tables, in a service's own migration; grant `GRANTS` beside it."""
    for statement in _DDL:
        op.execute(statement)


async def read_tip(session: AsyncConnection, *, lock: bool = False) -> Tip:
    """Return the tip, locked against other writers if asked; NotInitializedError."""
    query = "select hash, height, chainwork, version from chain_tip"
    result = await session.exec_driver_sql(query + " for update" if lock else query)
    row = result.one_or_none()
    if row is None:
        raise NotInitializedError("the header store has no checkpoint yet")
    return Tip(row.hash, row.height, int(row.chainwork), row.version)


async def lock_against_initializers(session: AsyncConnection) -> None:
    """Let one transaction at a time look for a first tip and write it."""
    await session.exec_driver_sql("lock table chain_tip in share row exclusive mode")


async def insert_tip(session: AsyncConnection, first: StoredHeader) -> None:
    """Write the first tip."""
    await session.exec_driver_sql(
        "insert into chain_tip (hash, height, chainwork, version)"
        " values (%(hash)s, %(height)s, %(chainwork)s, 1)",
        {"hash": first.hash, "height": first.height, "chainwork": first.chainwork},
    )


async def move_tip(session: AsyncConnection, old: Tip, new: StoredHeader) -> Tip:
    """Replace the tip that was read by another one; TipMovedError if it has changed since."""
    result = await session.exec_driver_sql(
        "update chain_tip set hash = %(hash)s, height = %(height)s, chainwork = %(chainwork)s,"
        " version = version + 1 where version = %(version)s",
        {
            "hash": new.hash,
            "height": new.height,
            "chainwork": new.chainwork,
            "version": old.version,
        },
    )
    if result.rowcount != 1:
        raise TipMovedError(f"the tip is no longer version {old.version}")
    return await read_tip(session)


async def insert(session: AsyncConnection, headers: Sequence[StoredHeader]) -> None:
    """Store headers that are not there yet."""
    await session.exec_driver_sql(
        "insert into chain_header (hash, prev_hash, height, raw, chainwork, state, received_at)"
        " values (%(hash)s, %(prev_hash)s, %(height)s, %(raw)s, %(chainwork)s, %(state)s,"
        " %(received_at)s)",
        [
            {
                "hash": each.hash,
                "prev_hash": each.header.prev_hash,
                "height": each.height,
                "raw": each.header.serialize(),
                "chainwork": each.chainwork,
                "state": each.state,
                "received_at": each.received_at,
            }
            for each in headers
        ],
    )


async def by_hash(session: AsyncConnection, block_hash: str) -> StoredHeader | None:
    """Return the header with this hash, whatever its state."""
    query = "select * from chain_header where hash = %(hash)s"
    found = await _headers(session, query, hash=block_hash)
    return found[0] if found else None


async def active_at(session: AsyncConnection, height: int) -> StoredHeader | None:
    """Return the header of the active branch at this height."""
    query = "select * from chain_header where state = 'active' and height = %(height)s"
    found = await _headers(session, query, height=height)
    return found[0] if found else None


async def lowest_active(session: AsyncConnection) -> int:
    """Return the lowest height of the active branch; NotInitializedError."""
    result = await session.exec_driver_sql(
        "select min(height) from chain_header where state = 'active'"
    )
    height: int | None = result.scalar_one()
    if height is None:
        raise NotInitializedError("the header store has no checkpoint yet")
    return height


async def line(session: AsyncConnection, block_hash: str, count: int) -> list[Header]:
    """Return up to `count` headers that end at this one, oldest first."""
    result = await session.exec_driver_sql(
        "with recursive line as ("
        " select prev_hash, raw, 1 as n from chain_header where hash = %(hash)s"
        " union all"
        " select h.prev_hash, h.raw, n + 1 from line"
        " join chain_header h on h.hash = line.prev_hash where n < %(count)s)"
        " select raw from line order by n desc",
        {"hash": block_hash, "count": count},
    )
    return [parse_header(bytes(row.raw)) for row in result]


async def stale_branch(session: AsyncConnection, block_hash: str) -> list[StoredHeader]:
    """Return the stale headers that lead from the active branch to this one, lowest first."""
    query = (
        "with recursive branch as ("
        " select * from chain_header where hash = %(hash)s and state = 'stale'"
        " union all"
        " select h.* from branch"
        " join chain_header h on h.hash = branch.prev_hash and h.state = 'stale')"
        " select * from branch order by height"
    )
    return await _headers(session, query, hash=block_hash)


async def deactivate_above(session: AsyncConnection, height: int) -> list[StoredHeader]:
    """Make active headers above this height stale; return them, highest first."""
    query = (
        "with changed as (update chain_header set state = 'stale'"
        " where state = 'active' and height > %(height)s returning *)"
        " select * from changed order by height desc"
    )
    return await _headers(session, query, height=height)


async def activate(session: AsyncConnection, hashes: Sequence[str]) -> list[StoredHeader]:
    """Make these headers active; return them, lowest first."""
    query = (
        "with changed as (update chain_header set state = 'active'"
        " where hash = any(%(hashes)s) returning *)"
        " select * from changed order by height"
    )
    return await _headers(session, query, hashes=list(hashes))


async def take_orphans_of(session: AsyncConnection, parent_hash: str) -> list[StoredHeader]:
    """Remove the orphans that wait for this parent; return them, first seen first."""
    query = (
        "with taken as (delete from chain_header"
        " where state = 'orphan' and prev_hash = %(hash)s returning *)"
        " select * from taken order by received_at, hash"
    )
    return await _headers(session, query, hash=parent_hash)


async def evict_orphans(session: AsyncConnection, kept: int) -> None:
    """Remove all orphans but the newest ones."""
    await session.exec_driver_sql(
        "delete from chain_header where hash in (select hash from chain_header"
        " where state = 'orphan' order by received_at desc, hash offset %(kept)s)",
        {"kept": kept},
    )


async def missing_parents(session: AsyncConnection, *, limit: int = 20) -> list[str]:
    """Return hashes to fetch: unknown parents of orphans, those of the latest orphans first."""
    result = await session.exec_driver_sql(
        "select o.prev_hash from chain_header o where o.state = 'orphan'"
        " and not exists (select from chain_header p where p.hash = o.prev_hash)"
        " group by o.prev_hash order by max(o.received_at) desc, o.prev_hash limit %(limit)s",
        {"limit": limit},
    )
    return [row.prev_hash for row in result]


async def _headers(session: AsyncConnection, query: str, **values: object) -> list[StoredHeader]:
    return [_stored(row) for row in await session.exec_driver_sql(query, values)]


def _stored(row: Any) -> StoredHeader:
    return StoredHeader(
        header=parse_header(bytes(row.raw)),
        height=row.height,
        chainwork=None if row.chainwork is None else int(row.chainwork),
        state=row.state,
        received_at=row.received_at,
    )
