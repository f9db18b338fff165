"""Holds: one row each; its lock orders those who would close it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text

from memepool_common.db import Session

_COLUMNS = "id, owner_id, kind, amount, state, coalesce(expires_at <= now(), false) as overdue"
_INSERT = text(
    "insert into hold (id, owner_id, kind, amount, expires_at)"
    " values (:id, :owner_id, :kind, :amount, :expires_at)"
)
_LOCK = text(f"select {_COLUMNS} from hold where id = :id for update")  # noqa: S608 - a constant
_DUE = text(
    f"select {_COLUMNS} from hold where state = 'open' and expires_at <= now()"  # noqa: S608 - a constant
    " order by expires_at limit :limit for update skip locked"
)
_CLOSE = text(
    "update hold h set state = :state, posted_amount = c.posted, closed_at = now()"
    " from unnest(cast(:ids as uuid[]), cast(:posted as bigint[])) as c(id, posted)"
    " where h.id = c.id and h.state = 'open'"
)


class NewHold(NamedTuple):
    """What is to be set aside, in satoshis. Without `expires_at` it waits for ever."""

    id: UUID
    owner_id: UUID
    kind: str
    amount: int
    expires_at: datetime | None


class Hold(NamedTuple):
    """A hold as it stands. `overdue`: its time is over, whether or not it has been closed yet."""

    id: UUID
    owner_id: UUID
    kind: str
    amount: int
    state: str
    overdue: bool


async def add(session: Session, hold: NewHold) -> None:
    """Write down a hold whose money was moved just now."""
    await session.execute(_INSERT, hold._asdict())


async def lock(session: Session, hold_id: UUID) -> Hold | None:
    """The hold, unchanged until this transaction ends."""
    row = (await session.execute(_LOCK, {"id": hold_id})).one_or_none()
    return None if row is None else Hold(*row)


async def lock_due(session: Session, limit: int) -> list[Hold]:
    """Some of those whose time is over and that nobody else is closing."""
    return [Hold(*row) for row in await session.execute(_DUE, {"limit": limit})]


async def close(session: Session, ids: Sequence[UUID], state: str, posted: Sequence[int]) -> None:
    """Close open holds; `posted` are the satoshis that went where they were meant for."""
    values: dict[str, Any] = {"ids": list(ids), "posted": list(posted), "state": state}
    if (await session.execute(_CLOSE, values)).rowcount != len(ids):
        raise AssertionError("the ledger's key says that these holds were open")
