"""Reports. Locks are taken in the order meme, report."""

from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, update

from memepool_common.db import Session
from memepool_content.domain.report import Report, ReportState
from memepool_content.store.tables import report

_FIELDS = [field.name for field in fields(Report)]


async def add(session: Session, new: Report) -> None:
    """A new report."""
    await session.execute(insert(report).values({name: getattr(new, name) for name in _FIELDS}))


async def get(session: Session, report_id: UUID, *, lock: bool = False) -> Report | None:
    """A report, or None. `lock`: for a decision."""
    query = select(report).where(report.c.id == report_id)
    row = (await session.execute(query.with_for_update() if lock else query)).one_or_none()
    return None if row is None else _report(row)


async def open_by(session: Session, content_id: UUID, reporter_id: UUID) -> Report | None:
    """What this reader has reported of this meme and nobody has decided."""
    query = select(report).where(
        report.c.content_id == content_id,
        report.c.reporter_id == reporter_id,
        report.c.state == "open",
    )
    row = (await session.execute(query)).one_or_none()
    return None if row is None else _report(row)


async def queue(session: Session, after: UUID | None, limit: int) -> list[Report]:
    """Open reports, the oldest first (ids rise with time)."""
    query = select(report).where(report.c.state == "open").order_by(report.c.id).limit(limit)
    if after is not None:
        query = query.where(report.c.id > after)
    return [_report(row) for row in (await session.execute(query)).all()]


async def count_since(session: Session, reporter_id: UUID, since: datetime) -> int:
    """How many reports a reader has made since then."""
    query = select(func.count()).where(
        report.c.reporter_id == reporter_id, report.c.created_at > since
    )
    return int((await session.execute(query)).scalar_one())


async def decide(
    session: Session, report_id: UUID, state: ReportState, by: UUID, reason: str, now: datetime
) -> Report:
    """Close a locked report."""
    statement = update(report).where(report.c.id == report_id)
    row = await session.execute(
        statement.values(
            state=state, decided_by=by, decision_reason=reason, decided_at=now
        ).returning(report)
    )
    return _report(row.one())


async def close_all(
    session: Session, content_id: UUID, by: UUID, reason: str, now: datetime
) -> None:
    """The meme is removed: its open reports have led to that."""
    await session.execute(
        update(report)
        .where(report.c.content_id == content_id, report.c.state == "open")
        .values(state="removed", decided_by=by, decision_reason=reason, decided_at=now)
    )


def _report(row: Any) -> Report:
    return Report(**{name: getattr(row, name) for name in _FIELDS})
