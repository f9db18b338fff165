"""The events that content publishes. It owns their schemas: only optional fields may be added."""

from typing import Literal
from uuid import UUID

from memepool_common.events import NewEvent
from memepool_common.events.envelope import PUBLIC
from memepool_common.web.model import Timestamp, WireModel

MEME_PUBLISHED = "memepool.content.meme.published.v1"
MEME_PROCESSING = "memepool.content.meme.processing.v1"
MEME_REJECTED = "memepool.content.meme.rejected.v1"
MEME_REMOVED = "memepool.content.meme.removed.v1"
JOB_UPDATED = "memepool.content.job.updated.v1"


class MemePublishedData(WireModel, extra="forbid"):
    """The whole projection of a meme that is ready. The event's version orders projections;
    `version` here is that of the image."""

    content_id: UUID
    creator_id: UUID
    title: str
    description: str
    tags: list[str]
    version: int
    sha256: str
    mime_type: str
    width: int
    height: int
    created_at: Timestamp
    updated_at: Timestamp


class MemeProcessingData(WireModel, extra="forbid"):
    """An upload has waited long enough: it is being checked."""

    content_id: UUID
    creator_id: UUID
    started_at: Timestamp


class MemeRejectedData(WireModel, extra="forbid"):
    """An upload did not become a meme."""

    content_id: UUID
    creator_id: UUID
    code: str
    detail: str
    rejected_at: Timestamp


class MemeRemovedData(WireModel, extra="forbid"):
    """A meme is gone for good; no later event brings it back."""

    content_id: UUID
    creator_id: UUID
    removed_by: Literal["owner", "admin"]
    removed_at: Timestamp


class JobUpdatedData(WireModel, extra="forbid"):
    """A transformation went on."""

    job_id: UUID
    content_id: UUID
    creator_id: UUID
    state: Literal["queued", "running", "done", "failed"]
    progress_percent: int
    error: str | None
    updated_at: Timestamp


EVENTS: dict[str, type[WireModel]] = {
    MEME_PUBLISHED: MemePublishedData,
    MEME_PROCESSING: MemeProcessingData,
    MEME_REJECTED: MemeRejectedData,
    MEME_REMOVED: MemeRemovedData,
    JOB_UPDATED: JobUpdatedData,
}


def meme_published(data: MemePublishedData, revision: int) -> NewEvent:
    """A meme is ready, or its title, tags or image changed; `revision` rises with each change."""
    return NewEvent(MEME_PUBLISHED, str(data.content_id), data, PUBLIC, revision)


def meme_processing(data: MemeProcessingData) -> NewEvent:
    """For its creator's progress display. It is told once, and changes nothing of the meme."""
    return NewEvent(MEME_PROCESSING, str(data.content_id), data, str(data.creator_id))


def meme_rejected(data: MemeRejectedData, revision: int) -> NewEvent:
    """Only its creator learns why."""
    return NewEvent(MEME_REJECTED, str(data.content_id), data, str(data.creator_id), revision)


def meme_removed(data: MemeRemovedData, revision: int) -> NewEvent:
    """By its owner or by an admin."""
    return NewEvent(MEME_REMOVED, str(data.content_id), data, PUBLIC, revision)


def job_updated(data: JobUpdatedData, revision: int) -> NewEvent:
    """For the owner's progress display."""
    return NewEvent(JOB_UPDATED, str(data.job_id), data, str(data.creator_id), revision)
