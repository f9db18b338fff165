"""The processing queue: a job is leased, and whoever lost the lease has lost the job."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from memepool_common.db import Session

_ADD = text(
    "insert into processing_job (content_id, creator_id, upload_key, enqueued_at, available_at)"
    " values (:content_id, :creator_id, :upload_key, :now, :now)"
)
_LEASE = text(
    "update processing_job job set lease_id = :lease_id, attempts = attempts + 1,"
    " leased_until = now() + make_interval(secs => :lease_s)"
    " from (select content_id from processing_job"
    "   where available_at <= now() and (leased_until is null or leased_until < now())"
    "   order by enqueued_at limit 1 for update skip locked) due"
    " where job.content_id = due.content_id"
    " returning job.content_id, job.upload_key, job.attempts"
)
_RENEW = text(
    "update processing_job set leased_until = now() + make_interval(secs => :lease_s)"
    " where content_id = :content_id and lease_id = :lease_id"
)
_RETRY = text(
    "update processing_job set lease_id = null, leased_until = null,"
    " available_at = now() + make_interval(secs => :delay_s)"
    " where content_id = :content_id and lease_id = :lease_id"
)
_FINISH = text(
    "delete from processing_job where content_id = :content_id and lease_id = :lease_id"
    " returning content_id"
)
_CANCEL = text("delete from processing_job where content_id = :content_id returning upload_key")
_QUEUED = text(
    "select count(*) as everybody, count(*) filter (where creator_id = :creator_id) as own"
    " from processing_job"
)


@dataclass(frozen=True, slots=True)
class Job:
    """A job that we hold the lease of. `attempts` counts this one."""

    content_id: UUID
    upload_key: str
    attempts: int
    lease_id: UUID


async def add(
    session: Session, *, content_id: UUID, creator_id: UUID, upload_key: str, now: datetime
) -> None:
    """Queue an upload, visible once the transaction has committed."""
    row = {"content_id": content_id, "creator_id": creator_id, "upload_key": upload_key}
    await session.execute(_ADD, {**row, "now": now})


async def lease(session: Session, lease_id: UUID, lease_s: float) -> Job | None:
    """Take the oldest job that is due and that nobody holds."""
    row = (await session.execute(_LEASE, {"lease_id": lease_id, "lease_s": lease_s})).one_or_none()
    return None if row is None else Job(row.content_id, row.upload_key, row.attempts, lease_id)


async def renew(session: Session, job: Job, lease_s: float) -> None:
    """Hold the lease for longer, if it is still ours."""
    await session.execute(_RENEW, {**_identity(job), "lease_s": lease_s})


async def retry(session: Session, job: Job, delay_s: float) -> None:
    """Give the job back, to be tried again after a while."""
    await session.execute(_RETRY, {**_identity(job), "delay_s": delay_s})


async def finish(session: Session, job: Job) -> bool:
    """Take the job out of the queue. False: it is not ours any more, so nothing may change."""
    return (await session.execute(_FINISH, _identity(job))).one_or_none() is not None


async def cancel(session: Session, content_id: UUID) -> str | None:
    """Take a meme's job out of the queue, whoever holds it; returns its upload's key."""
    found = await session.execute(_CANCEL, {"content_id": content_id})
    return found.scalar_one_or_none()


async def queued(session: Session, creator_id: UUID) -> tuple[int, int]:
    """Uploads that wait or are being processed: everybody's, and this user's."""
    row = (await session.execute(_QUEUED, {"creator_id": creator_id})).one()
    return row.everybody, row.own


def _identity(job: Job) -> dict[str, UUID]:
    return {"content_id": job.content_id, "lease_id": job.lease_id}
