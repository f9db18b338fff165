"""Transformations as their owner sees them: asked for, read, stopped. The worker's part is in
`transforming`."""

from datetime import datetime, timedelta
from uuid import UUID

from memepool_common import audit
from memepool_common.db import Session
from memepool_common.events import outbox
from memepool_common.ids import uuid7
from memepool_content.domain.errors import (
    NotFoundError,
    SuspendedError,
    TransformQuotaError,
    TransformUnavailableError,
)
from memepool_content.domain.meme import Meme, Status, check_transition
from memepool_content.domain.transformation import Failure, State, Transformation, Wanted
from memepool_content.events import JobUpdatedData, job_updated
from memepool_content.settings import AituboSettings
from memepool_content.store import erasures, members, memes
from memepool_content.store import transformations as store

DAY = timedelta(days=1)


async def start(
    session: Session, meme: Meme, wanted: Wanted, aitubo: AituboSettings | None, now: datetime
) -> Transformation:
    """Queue a transformation of its owner's locked meme, which is `transforming` from now on.

    Raises:
        TransformUnavailableError, SuspendedError, TransformQuotaError
        ForbiddenTransitionError: the meme is not ready, or another one is under way.
    """
    check_transition(meme.status, Status.TRANSFORMING)
    job = await _add(session, meme, wanted, State.QUEUED, aitubo, now)
    await memes.change(session, meme, now, status=Status.TRANSFORMING, transformation_id=job.id)
    return job


async def wait(
    session: Session, meme: Meme, wanted: Wanted, aitubo: AituboSettings | None, now: datetime
) -> Meme:
    """Let a transformation wait for a fresh upload to be processed; raises what `start` raises."""
    job = await _add(session, meme, wanted, State.WAITING, aitubo, now)
    return await memes.change(session, meme, now, transformation_id=job.id)


async def start_waiting(session: Session, meme: Meme, now: datetime) -> None:
    """The upload is a meme now: the transformation that it came with may start."""
    job = await store.open_of(session, meme.id)
    if job is None:
        return
    queued = await store.change(session, job.id, now, state=State.QUEUED)
    assert queued is not None  # noqa: S101 - the row is locked
    await memes.change(session, meme, now, status=Status.TRANSFORMING)
    await announce(session, queued)


async def stop(session: Session, meme: Meme, failure: Failure, detail: str, now: datetime) -> None:
    """End the open transformation of a locked meme, if there is one; its status stays."""
    job = await store.open_of(session, meme.id)
    if job is not None:
        await fail(session, job, failure, detail, now, None)


async def fail(
    session: Session,
    job: Transformation,
    failure: Failure,
    detail: str,
    now: datetime,
    held: UUID | None,
) -> bool:
    """End a job with the reason. False: the lease was lost, and nothing has changed."""
    failed = await store.change(
        session,
        job.id,
        now,
        held,
        state=State.FAILED,
        error=failure.value,
        error_detail=detail,
        upload_key=None,
        lease_id=None,
        leased_until=None,
    )
    if failed is None:
        return False
    if job.upload_key is not None:
        await erasures.add(session, [job.upload_key], now)
    await announce(session, failed)
    await record(session, failed, "content.transformation.failed", failure.value)
    return True


async def read(session: Session, meme: Meme, job_id: UUID) -> Transformation:
    """A transformation of this meme.

    Raises:
        NotFoundError
    """
    job = await store.get(session, job_id)
    if job is None or job.content_id != meme.id:
        raise NotFoundError(f"This meme has no job {job_id}.")
    return job


async def announce(session: Session, job: Transformation) -> None:
    """Tell the owner how far it is."""
    data = JobUpdatedData(
        job_id=job.id,
        content_id=job.content_id,
        creator_id=job.creator_id,
        state=job.wire_state,
        progress_percent=job.progress_percent,
        error=job.error,
        updated_at=job.updated_at,
    )
    await outbox.append(session, [job_updated(data, job.revision)])


async def record(session: Session, job: Transformation, action: str, outcome: str = "done") -> None:
    """Into the audit log."""
    await audit.record(
        session,
        actor_id=job.creator_id,
        account_id=job.creator_id,
        action=action,
        subject=str(job.content_id),
        outcome=outcome,
        details={"jobId": str(job.id), "creditsConsumed": job.credits_consumed},
    )


async def _add(
    session: Session,
    meme: Meme,
    wanted: Wanted,
    state: State,
    aitubo: AituboSettings | None,
    now: datetime,
) -> Transformation:
    if aitubo is None:
        raise TransformUnavailableError
    if await members.lock(session, meme.creator_id):
        raise SuspendedError("Your account is suspended; nothing new can be made.")
    unfinished, today = await store.counts(session, meme.creator_id, now - DAY)
    if unfinished >= aitubo.open_per_user_max:
        raise TransformQuotaError(f"{unfinished} of your transformations are still under way.")
    if today >= aitubo.daily_max:
        raise TransformQuotaError(f"{aitubo.daily_max} transformations within 24 hours, no more.")
    job = Transformation(
        id=uuid7(),
        content_id=meme.id,
        creator_id=meme.creator_id,
        kind=wanted.kind,
        prompt=wanted.prompt,
        style=wanted.style,
        strength=wanted.strength,
        state=state,
        revision=1,
        progress_percent=0,
        attempts=0,
        remote_id=None,
        credits_consumed=None,
        upload_key=None,
        version=None,
        error=None,
        error_detail=None,
        submitted_at=None,
        created_at=now,
        updated_at=now,
    )
    await store.add(session, job)
    await announce(session, job)
    await record(session, job, "content.transformation.requested")
    return job
