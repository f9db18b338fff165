"""Taking an upload in: is it allowed, is it new, and then it is queued."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from memepool_common import audit
from memepool_common.db import Session
from memepool_common.ids import uuid7
from memepool_content.domain.errors import (
    DailyQuotaError,
    DuplicateError,
    QueueFullError,
    SuspendedError,
    TakenDownError,
    UserQueueFullError,
)
from memepool_content.domain.meme import PUBLIC, Meme, Status
from memepool_content.domain.transformation import Wanted
from memepool_content.settings import AituboSettings, UploadSettings
from memepool_content.store import erasures, hashes, jobs, members, memes
from memepool_content.use_cases import transformations

UNCLAIMED_UPLOAD_KEPT = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class NewUpload:
    """A file that lies in the store under `key`, with what its owner says of it."""

    key: str
    sha256: str
    title: str | None
    description: str | None
    tags: tuple[str, ...]
    transform: Wanted | None = None


async def admit(session: Session, creator_id: UUID, limits: UploadSettings, now: datetime) -> None:
    """Check that a user may upload now; a user's uploads pass here one after the other.

    Raises:
        SuspendedError, UserQueueFullError, QueueFullError, DailyQuotaError
    """
    if await members.lock(session, creator_id):
        raise SuspendedError("Your account is suspended; nothing new can be uploaded.")
    everybody, own = await jobs.queued(session, creator_id)
    if own >= limits.queued_per_user_max:
        detail = f"{own} of your uploads are still being processed; wait for them."
        raise UserQueueFullError(detail)
    if everybody >= limits.queued_max:
        raise QueueFullError("Too many uploads are being processed; try again soon.")
    today = await memes.count_since(session, creator_id, now - DAY)
    if today >= limits.daily_max:
        raise DailyQuotaError(f"{limits.daily_max} uploads within 24 hours are the most.")


async def announce(session: Session, key: str, now: datetime) -> None:
    """An object is about to be stored: unless `accept` commits, it goes again."""
    await erasures.add(session, [key], now + UNCLAIMED_UPLOAD_KEPT)


async def forget(session: Session, key: str, now: datetime) -> None:
    """Unless it was accepted, an announced object goes now."""
    await erasures.hasten(session, [key], now)


async def accept(
    session: Session,
    creator_id: UUID,
    upload: NewUpload,
    limits: UploadSettings,
    aitubo: AituboSettings | None,
    now: datetime,
) -> Meme:
    """Make an announced upload a meme in `processing`, queued.

    Raises:
        what `admit` and `transformations.wait` raise
        DuplicateError, TakenDownError: the same file was uploaded before.
    """
    await admit(session, creator_id, limits, now)
    meme = Meme(
        id=uuid7(),
        creator_id=creator_id,
        title=upload.title,
        description=upload.description,
        tags=upload.tags,
        status=Status.PROCESSING,
        revision=1,
        version=1,
        mime_type=None,
        width=None,
        height=None,
        frames=None,
        size_bytes=None,
        sha256=None,
        quality=None,
        rejection_code=None,
        rejection_detail=None,
        created_at=now,
        updated_at=now,
    )
    await memes.add(session, meme)
    holder = await hashes.claim(session, meme.id, [upload.sha256])
    if holder is not None:
        raise await _taken(session, holder, creator_id)
    await jobs.add_upload(
        session, content_id=meme.id, creator_id=creator_id, upload_key=upload.key, now=now
    )
    if not await erasures.keep(session, [upload.key]):
        raise TimeoutError("the upload was given up before it was accepted")
    await audit.record(
        session,
        actor_id=creator_id,
        account_id=creator_id,
        action="content.meme.uploaded",
        subject=str(meme.id),
        details={"sha256": upload.sha256},
    )
    if upload.transform is not None:
        return await transformations.wait(session, meme, upload.transform, aitubo, now)
    return meme


async def _taken(
    session: Session, holder: UUID, caller_id: UUID
) -> DuplicateError | TakenDownError:
    """Why the image is refused; names the other meme only to who may see it."""
    other = await memes.get(session, holder)
    if other is not None and other.status is Status.REMOVED:
        return TakenDownError("This image was removed and cannot come back.")
    visible = other is not None and (other.status in PUBLIC or other.creator_id == caller_id)
    return DuplicateError(str(holder) if visible else None)
