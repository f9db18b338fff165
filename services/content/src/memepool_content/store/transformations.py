"""Transformations: a durable queue. Who lost the lease of a job has lost the job.

Locks are taken in the order meme, transformation.
"""

from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, text, update

from memepool_common.db import Session
from memepool_content.domain.transformation import Kind, State, Transformation
from memepool_content.store.tables import transformation

_FIELDS = [field.name for field in fields(Transformation)]
_CLOSED = (State.DONE, State.FAILED)
# One lease at a time, so that the count of those under way is exact.
_SERIALIZE = text("select pg_advisory_xact_lock(hashtext('content.transformation.lease'))")
_LEASE = text(
    "with due as materialized (select id from transformation"
    "   where available_at <= now() and (leased_until is null or leased_until < now())"
    "   and (state = any(:states) and (state <> 'queued' or :remote_max >"
    "       (select count(*) from transformation where state in ('submitting', 'running')))"
    "     or state = 'queued' and created_at < cast(:overdue as timestamptz))"
    "   order by state = 'queued', available_at limit 1 for update skip locked)"
    " update transformation job set lease_id = :lease_id, attempts = attempts + 1,"
    " leased_until = now() + make_interval(secs => :lease_s) from due"
    " where job.id = due.id returning job.*"
)
_RENEW = text(
    "update transformation set leased_until = now() + make_interval(secs => :lease_s)"
    " where id = :id and lease_id = :lease_id"
)
_COUNTS = text(
    "select count(*) filter (where state not in ('done', 'failed')) as open, count(*) as today"
    " from transformation where creator_id = :creator_id"
    " and (created_at > :since or state not in ('done', 'failed'))"
)


@dataclass(frozen=True, slots=True)
class Leased:
    """A job that we hold the lease of; `fresh` if it became `submitting` with this very lease."""

    job: Transformation
    lease_id: UUID
    fresh: bool = False


async def add(session: Session, job: Transformation) -> None:
    """A new job."""
    row = {name: getattr(job, name) for name in _FIELDS}
    await session.execute(insert(transformation).values(**row, available_at=job.created_at))


async def get(session: Session, job_id: UUID) -> Transformation | None:
    """A job."""
    query = select(transformation).where(transformation.c.id == job_id)
    row = (await session.execute(query)).one_or_none()
    return None if row is None else _job(row)


async def by_ids(session: Session, job_ids: Collection[UUID]) -> dict[UUID, Transformation]:
    """Jobs by their ids."""
    if not job_ids:
        return {}
    query = select(transformation).where(transformation.c.id.in_(job_ids))
    return {row.id: _job(row) for row in (await session.execute(query)).all()}


async def open_of(session: Session, content_id: UUID) -> Transformation | None:
    """The open job of a locked meme, locked."""
    query = select(transformation).where(
        transformation.c.content_id == content_id, transformation.c.state.not_in(_CLOSED)
    )
    row = (await session.execute(query.with_for_update())).one_or_none()
    return None if row is None else _job(row)


async def lease(
    session: Session,
    lease_id: UUID,
    lease_s: float,
    states: Collection[State],
    remote_max: int,
    overdue: datetime | None = None,
) -> Leased | None:
    """Take a due job in one of `states`; a queued one only below `remote_max` under way, or if it
    was asked for before `overdue`."""
    await session.execute(_SERIALIZE)
    values = {
        "lease_id": lease_id,
        "lease_s": lease_s,
        "states": [*states],
        "remote_max": remote_max,
        "overdue": overdue,
    }
    row = (await session.execute(_LEASE, values)).one_or_none()
    return None if row is None else Leased(_job(row), lease_id)


async def renew(session: Session, leased: Leased, lease_s: float) -> None:
    """Hold the lease for longer, if it is still ours."""
    values = {"id": leased.job.id, "lease_id": leased.lease_id, "lease_s": lease_s}
    await session.execute(_RENEW, values)


async def change(
    session: Session, job_id: UUID, now: datetime, held: UUID | None = None, **values: Any
) -> Transformation | None:
    """Write these columns; the revision rises. With `held`: None if that lease is lost."""
    statement = update(transformation).where(transformation.c.id == job_id)
    if held is not None:
        statement = statement.where(transformation.c.lease_id == held)
    changed = statement.values(
        **values, revision=transformation.c.revision + 1, updated_at=now
    ).returning(transformation)
    row = (await session.execute(changed)).one_or_none()
    return None if row is None else _job(row)


async def release(
    session: Session, leased: Leased, now: datetime, delay_s: float, *, forgiven: bool = False
) -> None:
    """Give the job back as it is, to go on after a while; if `forgiven`, this was no attempt."""
    statement = (
        update(transformation)
        .where(transformation.c.id == leased.job.id, transformation.c.lease_id == leased.lease_id)
        .values(
            lease_id=None,
            leased_until=None,
            available_at=now + timedelta(seconds=delay_s),
            attempts=transformation.c.attempts - int(forgiven),
        )
    )
    await session.execute(statement)


async def counts(session: Session, creator_id: UUID, since: datetime) -> tuple[int, int]:
    """A user's open jobs, and those that are open or were asked for since then."""
    row = (await session.execute(_COUNTS, {"creator_id": creator_id, "since": since})).one()
    return row.open, row.today


def _job(row: Any) -> Transformation:
    values = {name: getattr(row, name) for name in _FIELDS}
    return Transformation(**{**values, "kind": Kind(row.kind), "state": State(row.state)})
