"""Moderation: readers report, admins decide, and say why."""

from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from memepool_common import audit
from memepool_common.db import Session
from memepool_common.ids import uuid7
from memepool_content.domain.errors import (
    AlreadyDecidedError,
    ReportNotFoundError,
    ReportQuotaError,
    SuspendedError,
)
from memepool_content.domain.report import Report
from memepool_content.store import members
from memepool_content.store import memes as meme_store
from memepool_content.store import reports as store
from memepool_content.use_cases import memes

DAY = timedelta(days=1)
DAILY_MAX = 50


async def report(
    session: Session,
    content_id: UUID,
    reporter_id: UUID,
    reason: str,
    detail: str | None,
    now: datetime,
) -> Report:
    """Report a meme that the reader can see. A second report of it changes nothing.

    Raises:
        NotFoundError, RemovedError, SuspendedError, ReportQuotaError
    """
    meme = await memes.visible(session, content_id, reporter_id, admin=False, lock=True)
    if await members.lock(session, reporter_id):
        raise SuspendedError("Your account is suspended.")
    known = await store.open_by(session, meme.id, reporter_id)
    if known is not None:
        return known
    if await store.count_since(session, reporter_id, now - DAY) >= DAILY_MAX:
        raise ReportQuotaError(f"{DAILY_MAX} reports within 24 hours are the most.")
    new = Report(uuid7(), meme.id, reporter_id, reason, detail, "open", None, None, now, None)
    await store.add(session, new)
    await _record(session, new, reporter_id, reporter_id, "content.report.made", reason)
    return new


async def decide(
    session: Session,
    report_id: UUID,
    admin_id: UUID,
    decision: Literal["remove", "dismiss"],
    reason: str,
    now: datetime,
) -> Report:
    """Close a report, and remove its meme if that is the decision.

    Raises:
        ReportNotFoundError
        AlreadyDecidedError: it was closed before, perhaps by the removal of the meme.
    """
    found = await store.get(session, report_id)
    if found is None:
        raise ReportNotFoundError(f"There is no report {report_id}.")
    await meme_store.get(session, found.content_id, lock=True)
    locked = await store.get(session, report_id, lock=True)
    if locked is None or locked.state != "open":
        raise AlreadyDecidedError("This report is decided already.")
    if decision == "remove":
        await memes.remove(session, found.content_id, admin_id, admin=True, now=now, reason=reason)
    else:
        await store.decide(session, report_id, "dismissed", admin_id, reason, now)
    decided = await store.get(session, report_id)
    assert decided is not None  # noqa: S101 - reports are never deleted
    await _record(session, decided, admin_id, decided.reporter_id, "content.report.decided", reason)
    return decided


async def _record(
    session: Session, about: Report, actor_id: UUID, account_id: UUID, action: str, reason: str
) -> None:
    await audit.record(
        session,
        actor_id=actor_id,
        account_id=account_id,
        action=action,
        subject=str(about.content_id),
        outcome=about.state,
        details={"reportId": str(about.id), "reason": reason},
    )
