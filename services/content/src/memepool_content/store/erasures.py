"""Objects that must go from the store: entered in the transaction that lets go of them."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from memepool_common.db import Session

_ADD = text(
    "insert into erasure (key, due_at) select key, :due_at from unnest(cast(:keys as text[])) key"
    " on conflict (key) do update set due_at = least(erasure.due_at, excluded.due_at)"
)
_RESERVE = text(
    "insert into erasure (key, due_at) select key, :due_at from unnest(cast(:keys as text[])) key"
    " order by key on conflict (key) do update set due_at = excluded.due_at"
)
_HASTEN = text("update erasure set due_at = :due_at where key = any(:keys)")
_KEEP = text("delete from erasure where key = any(:keys) returning key")
_DUE = text(
    "select key from erasure where due_at <= :now order by due_at limit :limit"
    " for update skip locked"
)
_DONE = text("delete from erasure where key = any(:keys)")
# Renditions are named as `adapters.media_store.media_key` says.
_ADD_STRAYS = text(
    "insert into erasure (key, due_at)"
    " select key, :now from unnest(cast(:keys as text[])) key"
    " where not exists (select from processing_job where upload_key = key)"
    " and not exists (select from transformation where upload_key = key)"
    " and not exists (select from variant where content_id = any(:ids)"
    "   and concat('media/', content_id, '/', sha256) = key)"
    " and not exists (select from alternative where content_id = any(:ids)"
    "   and concat('media/', content_id, '/', sha256) = key)"
    " on conflict do nothing"
)


async def add(session: Session, keys: Iterable[str], due_at: datetime) -> None:
    """These objects go at `due_at`, and stay gone."""
    await session.execute(_ADD, {"keys": sorted(set(keys)), "due_at": due_at})


async def add_strays(
    session: Session, keys: Sequence[str], owners: Sequence[UUID], now: datetime
) -> None:
    """Of these objects, those go now that nothing refers to; `owners` are the locked memes whose
    renditions are among them."""
    await session.execute(_ADD_STRAYS, {"keys": list(keys), "ids": list(owners), "now": now})


async def reserve(session: Session, keys: Iterable[str], due_at: datetime) -> None:
    """These objects are about to be stored: unless they are kept, they go at `due_at`.

    Waits for an erasure under way, so that what is stored afterwards stays.
    """
    await session.execute(_RESERVE, {"keys": sorted(set(keys)), "due_at": due_at})


async def hasten(session: Session, keys: Iterable[str], due_at: datetime) -> None:
    """Of these objects, those that were reserved are not needed; what is in use is not touched."""
    await session.execute(_HASTEN, {"keys": sorted(set(keys)), "due_at": due_at})


async def keep(session: Session, keys: Iterable[str]) -> bool:
    """The reserved objects are needed after all. False: one of them is already gone."""
    wanted = sorted(set(keys))
    found = (await session.execute(_KEEP, {"keys": wanted})).all()
    return len(found) == len(wanted)


async def due(session: Session, now: datetime, limit: int) -> Sequence[str]:
    """Keys whose time has come, locked."""
    return (await session.execute(_DUE, {"now": now, "limit": limit})).scalars().all()


async def done(session: Session, keys: Sequence[str]) -> None:
    """They are gone."""
    await session.execute(_DONE, {"keys": list(keys)})
