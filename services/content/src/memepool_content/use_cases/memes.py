"""Reading, changing and removing a meme: who may, and what follows."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from memepool_common import audit
from memepool_common.db import Session
from memepool_common.events import outbox
from memepool_content.adapters.media_store import media_key
from memepool_content.domain.errors import NotFoundError, NotOwnerError, RemovedError
from memepool_content.domain.meme import PUBLIC, Meme, Status, check_transition
from memepool_content.domain.transformation import Failure
from memepool_content.events import (
    MemePublishedData,
    MemeRemovedData,
    meme_published,
    meme_removed,
)
from memepool_content.imaging.result import Processed
from memepool_content.store import erasures, hashes, jobs, memes, renditions, reports
from memepool_content.use_cases import transformations


async def visible(
    session: Session, content_id: UUID, viewer_id: UUID | None, *, admin: bool, lock: bool = False
) -> Meme:
    """A meme that the viewer may see: everybody what is ready, its creator and admins the rest.

    Raises:
        NotFoundError, RemovedError
    """
    meme = await memes.get(session, content_id, lock=lock)
    if meme is not None and meme.status is Status.REMOVED:
        raise RemovedError("This meme was removed.")
    if meme is None or not (meme.status in PUBLIC or admin or meme.creator_id == viewer_id):
        raise NotFoundError(f"There is no meme {content_id}.")
    return meme


async def change(
    session: Session, content_id: UUID, caller_id: UUID, changes: Mapping[str, Any], now: datetime
) -> Meme:
    """The owner's new title, description or tags, already clean.

    Raises:
        NotFoundError, RemovedError, NotOwnerError
    """
    meme = await visible(session, content_id, caller_id, admin=False, lock=True)
    if meme.creator_id != caller_id:
        raise NotOwnerError("Only its creator may change a meme.")
    different = {name: value for name, value in changes.items() if getattr(meme, name) != value}
    if not different:
        return meme
    if "tags" in different:
        different["tags"] = list(different["tags"])
    meme = await memes.change(session, meme, now, **different)
    if meme.status in PUBLIC:
        await publish(session, meme)
    return meme


async def remove(
    session: Session,
    content_id: UUID,
    caller_id: UUID,
    *,
    admin: bool,
    now: datetime,
    reason: str | None = None,
) -> None:
    """Take a meme away for good: its bytes go, its hashes stay so that it cannot come back.

    What was never shown leaves no tombstone.

    Raises:
        NotFoundError, RemovedError, NotOwnerError
    """
    meme = await visible(session, content_id, caller_id, admin=admin, lock=True)
    if meme.creator_id != caller_id and not admin:
        raise NotOwnerError("Only its creator or an admin may remove a meme.")
    check_transition(meme.status, Status.REMOVED)
    by: Literal["owner", "admin"] = "owner" if meme.creator_id == caller_id else "admin"
    was_public = meme.status in PUBLIC
    await reports.close_all(session, meme.id, caller_id, reason or f"Removed by its {by}.", now)
    gone = await jobs.cancel(session, meme.id)
    await transformations.stop(session, meme, Failure.REMOVED, "The meme was removed.", now)
    gone += [media_key(meme.id, sha256) for sha256 in await renditions.remove(session, meme.id)]
    await erasures.add(session, gone, now)
    meme = await memes.change(session, meme, now, status=Status.REMOVED, removed_by=by)
    if was_public:
        data = MemeRemovedData(
            content_id=meme.id, creator_id=meme.creator_id, removed_by=by, removed_at=now
        )
        await outbox.append(session, [meme_removed(data, meme.revision)])
    else:
        await hashes.release(session, meme.id)
    await audit.record(
        session,
        actor_id=caller_id,
        account_id=meme.creator_id,
        action="content.meme.removed",
        subject=str(meme.id),
        details={"by": by, "sha256": meme.sha256, "reason": reason},
    )


async def show(
    session: Session, meme: Meme, done: Processed, version: int, now: datetime, **values: Any
) -> Meme:
    """Make this image the meme's, as that version; the meme is ready."""
    full = done.full
    await jobs.add_alternatives(
        session, content_id=meme.id, creator_id=meme.creator_id, version=version, now=now
    )
    await renditions.add(session, meme.id, version, done.written.variants)
    return await memes.change(
        session,
        meme,
        now,
        status=Status.READY,
        version=version,
        mime_type=full.mime_type,
        width=full.width,
        height=full.height,
        size_bytes=full.size_bytes,
        sha256=full.sha256,
        frames=done.frames,
        quality=done.quality,
        **values,
    )


async def publish(session: Session, meme: Meme) -> None:
    """Announce a meme that everybody may see, as it is now."""
    if meme.sha256 is None or meme.mime_type is None or not meme.width or not meme.height:
        msg = f"meme {meme.id} is {meme.status} without an image"
        raise AssertionError(msg)
    data = MemePublishedData(
        content_id=meme.id,
        creator_id=meme.creator_id,
        title=meme.title or "",
        description=meme.description or "",
        tags=list(meme.tags),
        version=meme.version,
        sha256=meme.sha256,
        mime_type=meme.mime_type,
        width=meme.width,
        height=meme.height,
        created_at=meme.created_at,
        updated_at=meme.updated_at,
    )
    await outbox.append(session, [meme_published(data, meme.revision)])
