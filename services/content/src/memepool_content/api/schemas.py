"""What clients send and get."""

from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from memepool_common.web.model import RequestModel, Timestamp, WireModel
from memepool_content.domain.meme import DESCRIPTION_LENGTH_MAX, TITLE_LENGTH_MAX, Meme
from memepool_content.domain.meme import Variant as DomainVariant
from memepool_content.domain.report import Report as DomainReport
from memepool_content.domain.report import ReportState
from memepool_content.domain.transformation import Failure, Kind, Wanted
from memepool_content.domain.transformation import Transformation as DomainTransformation


class ContentStatus(StrEnum):
    """Where a meme is in its life; more may be added. A removed one answers 410 instead."""

    PROCESSING = "processing"
    READY = "ready"
    REJECTED = "rejected"
    TRANSFORMING = "transforming"


class VariantName(StrEnum):
    """`full` as uploaded, `preview` up to 1080 px, `thumb` a still WebP up to 320 px."""

    FULL = "full"
    PREVIEW = "preview"
    THUMB = "thumb"


class Variant(WireModel):
    """A rendition. `url` is relative to the API, carries the version, and never changes."""

    name: str
    url: str
    mime_type: str
    width: int
    height: int
    size_bytes: int


class Rejection(WireModel):
    """Why an upload did not become a meme. `code` is stable."""

    code: str
    detail: str


JobState = Literal["queued", "running", "done", "failed"]
TransformKind = Literal["image2image", "text2image", "upscale"]


class Transformation(WireModel):
    """What made this version. To its owner: the latest transformation, however far it is."""

    job_id: UUID
    state: JobState
    kind: TransformKind
    prompt: str
    style: str | None
    strength: float | None
    error: str | None


class Content(WireModel):
    """A meme. What describes the image is null until it has been processed."""

    id: UUID
    creator_id: UUID
    title: str | None
    description: str | None
    tags: list[str]
    status: ContentStatus
    mime_type: str | None
    width: int | None
    height: int | None
    frames: int | None
    size_bytes: int | None
    sha256: str | None = Field(description="of the bytes of the variant `full`")
    version: int = Field(description="of the image; rises with each transformation")
    quality: float | None = Field(description="0 to 1")
    variants: list[Variant]
    transformation: Transformation | None
    rejection: Rejection | None
    created_at: Timestamp
    updated_at: Timestamp


def content_of(meme: Meme, viewer_id: UUID | None = None) -> Content:
    """The wire's view of a meme that is not removed; its owner sees more of transformations."""
    rejection = None
    if meme.rejection_code is not None:
        rejection = Rejection(code=meme.rejection_code, detail=meme.rejection_detail or "")
    return Content(
        id=meme.id,
        creator_id=meme.creator_id,
        title=meme.title,
        description=meme.description,
        tags=list(meme.tags),
        status=ContentStatus(meme.status.value),
        mime_type=meme.mime_type,
        width=meme.width,
        height=meme.height,
        frames=meme.frames,
        size_bytes=meme.size_bytes,
        sha256=meme.sha256,
        version=meme.version,
        quality=meme.quality,
        variants=[_variant_of(meme, variant) for variant in meme.variants],
        transformation=_transformation_of(meme, viewer_id),
        rejection=rejection,
        created_at=meme.created_at,
        updated_at=meme.updated_at,
    )


def _transformation_of(meme: Meme, viewer_id: UUID | None) -> Transformation | None:
    job = meme.transformation
    if job is None or not (job.state == "done" or meme.creator_id == viewer_id):
        return None
    return Transformation(
        job_id=job.id,
        state=job.wire_state,
        kind=job.kind.value,
        prompt=job.prompt,
        style=job.style,
        strength=job.strength,
        error=job.error,
    )


def _variant_of(meme: Meme, variant: DomainVariant) -> Variant:
    return Variant(
        name=variant.name,
        url=f"/content/{meme.id}/media/{variant.name}?v={meme.version}",
        mime_type=variant.mime_type,
        width=variant.width,
        height=variant.height,
        size_bytes=variant.size_bytes,
    )


class ContentUpdate(RequestModel):
    """What its owner may change. An absent field stays as it is, null clears it."""

    title: Annotated[str, Field(max_length=TITLE_LENGTH_MAX)] | None = None
    description: Annotated[str, Field(max_length=DESCRIPTION_LENGTH_MAX)] | None = None
    tags: Annotated[list[str], Field(max_length=100)] | None = None


class TransformRequest(RequestModel):
    """What AITubo shall make of the image.

    `image2image` makes it anew after the prompt, the more of it the higher `strength` is;
    `text2image` paints the prompt and ignores the image; `upscale` enlarges the image and ignores
    the prompt. A `style` is the name of a model, or words that are added to the prompt.
    """

    prompt: str = Field(min_length=1, max_length=2_000)
    style: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    strength: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    kind: TransformKind = "image2image"

    def wanted(self) -> Wanted:
        """The same for the rules."""
        return Wanted(Kind(self.kind), self.prompt, self.style, self.strength)


class Job(WireModel):
    """A transformation on its way; more states may be added."""

    id: UUID
    content_id: UUID
    state: JobState
    progress_percent: int
    kind: TransformKind
    prompt: str
    style: str | None
    strength: float | None
    error: str | None = Field(description="why it failed, one of: " + ", ".join(Failure))
    error_detail: str | None = Field(description="the same for people")
    credits_consumed: int | None = Field(description="what AITubo charged for it")
    version: int | None = Field(description="that came out of it")
    created_at: Timestamp
    updated_at: Timestamp


def job_of(job: DomainTransformation) -> Job:
    """The wire's view of a transformation."""
    return Job(
        id=job.id,
        content_id=job.content_id,
        state=job.wire_state,
        progress_percent=job.progress_percent,
        kind=job.kind.value,
        prompt=job.prompt,
        style=job.style,
        strength=job.strength,
        error=job.error,
        error_detail=job.error_detail,
        credits_consumed=job.credits_consumed,
        version=job.version,
        created_at=job.created_at,
        updated_at=job.updated_at,
    )


class ReportRequest(RequestModel):
    """What a reader finds wrong with a meme."""

    reason: Literal["illegal", "hateful", "sexual", "violent", "copyright", "spam", "other"]
    detail: Annotated[str, Field(max_length=2_000)] | None = None


class DecisionRequest(RequestModel):
    """What an admin decides on a report."""

    decision: Literal["remove", "dismiss"]
    reason: str = Field(min_length=1, max_length=2_000)


class Report(WireModel):
    """A reader's report and what became of it; more states may be added."""

    id: UUID
    content_id: UUID
    reporter_id: UUID
    reason: str
    detail: str | None
    state: ReportState
    decided_by: UUID | None
    decision_reason: str | None
    created_at: Timestamp
    decided_at: Timestamp | None


def report_of(report: DomainReport) -> Report:
    """The wire's view of a report."""
    return Report(
        id=report.id,
        content_id=report.content_id,
        reporter_id=report.reporter_id,
        reason=report.reason,
        detail=report.detail,
        state=report.state,
        decided_by=report.decided_by,
        decision_reason=report.decision_reason,
        created_at=report.created_at,
        decided_at=report.decided_at,
    )


def upload_body() -> dict[str, Any]:
    """The multipart body of an upload, for the API's document: it is read by our own code."""
    text = {"type": "string"}
    properties = {
        "file": {"type": "string", "format": "binary", "description": "the image"},
        "title": {**text, "maxLength": TITLE_LENGTH_MAX, "description": "else the file's name"},
        "description": {**text, "maxLength": DESCRIPTION_LENGTH_MAX},
        "tags": {
            "type": "array",
            "items": text,
            "description": "repeat the part, or separate by commas",
        },
        "transform": {**text, "description": "JSON, as the body of POST /content/{id}/transform"},
    }
    schema = {"type": "object", "required": ["file"], "properties": properties}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }
