"""The processing queue: a job is leased, and whoever lost the lease has lost the job."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import text

from memepool_common.db import Session

_ADD = text(
    "insert into processing_job"
    " (content_id, stage, version, creator_id, upload_key, enqueued_at, available_at)"
    " values (:content_id, :stage, :version, :creator_id, :upload_key, :now, :now)"
)
# Uploads first: somebody waits for them. Materialized: within a join, the limit counts each time
# that the planner has it run again, and more rows than one would be leased.
_LEASE = text(
    "with due as materialized (select content_id, stage, version from processing_job"
    "   where available_at <= now() and (leased_until is null or leased_until < now())"
    "   order by stage <> 'decode', enqueued_at limit 1 for update skip locked)"
    " update processing_job job set lease_id = :lease_id, attempts = attempts + 1,"
    " leased_until = now() + make_interval(secs => :lease_s) from due"
    " where (job.content_id, job.stage, job.version) = (due.content_id, due.stage, due.version)"
    " returning job.*"
)
_RENEW = text(
    "update processing_job set leased_until = now() + make_interval(secs => :lease_s)"
    " where content_id = :content_id and lease_id = :lease_id"
)
_RETRY = text(
    "update processing_job set lease_id = null, leased_until = null,"
    " attempts = greatest(attempts - :forgiven, 1),"
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
    " from processing_job where stage = 'decode'"
)
_OLDEST = text(
    "select stage, extract(epoch from now() - min(enqueued_at)) as oldest_s"
    " from processing_job group by stage"
)


class Stage(StrEnum):
    """What a job does: a meme of an upload, then that in further formats."""

    DECODE = "decode"
    ALTERNATIVES = "alternatives"


@dataclass(frozen=True, slots=True)
class Job:
    """A job that we hold the lease of. `attempts` counts this one."""

    content_id: UUID
    creator_id: UUID
    stage: Stage
    version: int
    upload_key: str | None
    attempts: int
    lease_id: UUID


async def add_upload(
    session: Session, *, content_id: UUID, creator_id: UUID, upload_key: str, now: datetime
) -> None:
    """Queue an upload, visible once the transaction has committed."""
    await _add(session, content_id, Stage.DECODE, 1, creator_id, upload_key, now)


async def add_alternatives(
    session: Session, *, content_id: UUID, creator_id: UUID, version: int, now: datetime
) -> None:
    """Queue a version that is shown from this commit on, to be written in further formats."""
    await _add(session, content_id, Stage.ALTERNATIVES, version, creator_id, None, now)


async def lease(session: Session, lease_id: UUID, lease_s: float) -> Job | None:
    """Take the oldest job that is due and that nobody holds."""
    row = (await session.execute(_LEASE, {"lease_id": lease_id, "lease_s": lease_s})).one_or_none()
    if row is None:
        return None
    return Job(
        row.content_id,
        row.creator_id,
        Stage(row.stage),
        row.version,
        row.upload_key,
        row.attempts,
        lease_id,
    )


async def renew(session: Session, job: Job, lease_s: float) -> None:
    """Hold the lease for longer, if it is still ours."""
    await session.execute(_RENEW, {**_identity(job), "lease_s": lease_s})


async def retry(session: Session, job: Job, delay_s: float, *, forgiven: bool) -> None:
    """Give the job back, to be tried again after a while; if `forgiven`, this was no attempt."""
    values = {**_identity(job), "delay_s": delay_s, "forgiven": int(forgiven)}
    await session.execute(_RETRY, values)


async def finish(session: Session, job: Job) -> bool:
    """Take the job out of the queue. False: it is not ours any more, so nothing may change."""
    return (await session.execute(_FINISH, _identity(job))).one_or_none() is not None


async def cancel(session: Session, content_id: UUID) -> list[str]:
    """Take a meme's jobs out of the queue, whoever holds them; returns their uploads' keys."""
    found = await session.execute(_CANCEL, {"content_id": content_id})
    return [key for key in found.scalars() if key is not None]


async def queued(session: Session, creator_id: UUID) -> tuple[int, int]:
    """Uploads that wait or are being processed: everybody's, and this user's."""
    row = (await session.execute(_QUEUED, {"creator_id": creator_id})).one()
    return row.everybody, row.own


async def oldest_s(session: Session) -> dict[Stage, float]:
    """How long the oldest job of each stage has waited, in seconds; 0 if there is none."""
    rows = (await session.execute(_OLDEST)).all()
    return {**dict.fromkeys(Stage, 0.0), **{Stage(row.stage): float(row.oldest_s) for row in rows}}


async def _add(
    session: Session,
    content_id: UUID,
    stage: Stage,
    version: int,
    creator_id: UUID,
    upload_key: str | None,
    now: datetime,
) -> None:
    values = {
        "content_id": content_id,
        "stage": stage,
        "version": version,
        "creator_id": creator_id,
        "upload_key": upload_key,
        "now": now,
    }
    await session.execute(_ADD, values)


def _identity(job: Job) -> dict[str, UUID]:
    return {"content_id": job.content_id, "lease_id": job.lease_id}
