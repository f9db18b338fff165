"""The transformation of a meme by an image AI: its states, its way, and how it can fail.

    waiting ─▶ queued ─▶ submitting ─▶ running ─▶ copied ─▶ done
       └──────────┴──────────┴───────────┴──────────┴─────▶ failed

- waiting: for the upload that it came with to be processed.
- queued: nothing has been asked of the AI yet.
- submitting: the one request that costs credits may be out. It is stored before the request, and
  never left backwards unless it is certain that nothing was submitted.
- running: the AI has answered with a job of its own; it is asked how far that is.
- copied: the picture lies in our store and is checked like an upload.

`Job.error` is one of `Failure`. A failed transformation leaves the meme as it was; its owner may
ask for another one, which is a new job.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

SIDE_PX_MIN = 64
SIDE_PX_MAX = 1_024
SIDE_PX_STEP = 8
"""What AITubo takes as width and height."""
WireState = Literal["queued", "running", "done", "failed"]


class Kind(StrEnum):
    """What is asked for, by AITubo's names."""

    IMAGE2IMAGE = "image2image"
    TEXT2IMAGE = "text2image"
    UPSCALE = "upscale"


class State(StrEnum):
    """Where a job is on its way."""

    WAITING = "waiting"
    QUEUED = "queued"
    SUBMITTING = "submitting"
    RUNNING = "running"
    COPIED = "copied"
    DONE = "done"
    FAILED = "failed"


class Failure(StrEnum):
    """Why a job failed."""

    REFUSED = "refused"
    """The AI said no: a code other than 0, or an answer 4xx."""
    GENERATION_FAILED = "generation_failed"
    """The AI took the job and could not do it: status 3."""
    NO_IMAGE = "no_image"
    """The AI says that it is done, and there is no picture."""
    NSFW = "nsfw"
    """The AI flagged its picture."""
    TIMED_OUT = "timed_out"
    """It was not done within the deadline."""
    OUTCOME_UNKNOWN = "outcome_unknown"
    """The answer to the submission was lost: submitting again might pay twice, so nobody does."""
    UNAVAILABLE = "unavailable"
    """The AI could not be reached for so long that the job was given up unsubmitted."""
    RESULT_REFUSED = "result_refused"
    """The picture lies where we do not fetch from, or is too large."""
    RESULT_REJECTED = "result_rejected"
    """The picture does not pass the checks of an upload."""
    DUPLICATE = "duplicate"
    """The picture is somebody's meme already, or was removed."""
    PROCESSING_FAILED = "processing_failed"
    """Our own processing failed, several times."""
    SOURCE_REJECTED = "source_rejected"
    """The upload that it came with was rejected."""
    REMOVED = "removed"
    """The meme was removed meanwhile."""


_WIRE: dict[State, WireState] = {
    State.WAITING: "queued",
    State.QUEUED: "queued",
    State.DONE: "done",
    State.FAILED: "failed",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the owner asks for. `strength` is in (0, 1]."""

    kind: Kind
    prompt: str
    style: str | None = None
    strength: float | None = None


@dataclass(frozen=True, slots=True)
class Transformation:
    """A job. `attempts` counts tries in its state; `credits_consumed` is what the AI charged."""

    id: UUID
    content_id: UUID
    creator_id: UUID
    kind: Kind
    prompt: str
    style: str | None
    strength: float | None
    state: State
    revision: int
    progress_percent: int
    attempts: int
    remote_id: str | None
    credits_consumed: int | None
    upload_key: str | None
    version: int | None
    error: str | None
    error_detail: str | None
    submitted_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @property
    def wire_state(self) -> WireState:
        """The state as clients know it."""
        return _WIRE.get(self.state, "running")


def result_size(width: int, height: int) -> tuple[int, int]:
    """Width and height to ask for: the image's aspect within what AITubo takes."""
    scale = min(1.0, SIDE_PX_MAX / max(width, height))

    def side(px: int) -> int:
        stepped = round(px * scale / SIDE_PX_STEP) * SIDE_PX_STEP
        return min(max(stepped, SIDE_PX_MIN), SIDE_PX_MAX)

    return side(width), side(height)


def prompt_in_style(prompt: str, style: str | None) -> str:
    """The prompt for a style that no model is named after."""
    return prompt if style is None else f"{prompt}, in the style of {style}"
