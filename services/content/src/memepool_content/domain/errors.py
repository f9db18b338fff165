"""What content refuses, and with which code.

ContentError
├── NotFoundError                 content_not_found
├── RemovedError                  content_removed
├── NotOwnerError                 not_owner
├── SuspendedError                suspended
├── ForbiddenTransitionError      status_conflict
├── DuplicateError                duplicate_content
├── TakenDownError                removed_before
├── UnsupportedFormatError        unsupported_format
├── EmptyFileError                empty_file
├── FileTooLargeError             file_too_large
├── InvalidMetadataError          invalid_metadata
├── TransformUnavailableError     transform_unavailable
├── ReportNotFoundError           report_not_found
├── AlreadyDecidedError           report_decided
└── QuotaError
    ├── UserQueueFullError        upload_queue_full
    ├── QueueFullError            uploads_busy
    ├── DailyQuotaError           daily_quota_exceeded
    ├── TransformQuotaError       transform_quota_exceeded
    └── ReportQuotaError          report_quota_exceeded
ImageRejectedError                codes of `domain.image` and `domain.quality`: the fate of an
                                  upload, told in `Content.rejection`, never an HTTP status
"""

import errno
from collections.abc import Mapping


class ContentError(Exception):
    """A refusal; the message is for the caller."""

    code = "refused"
    headers: Mapping[str, str] = {}
    extra: Mapping[str, object] = {}


class NotFoundError(ContentError):
    """There is none, or none that the caller may see: no cache may keep that, it may change."""

    code = "content_not_found"
    headers = {"Cache-Control": "no-store"}  # noqa: RUF012 - nobody changes it


class RemovedError(ContentError):
    """It was removed for good."""

    code = "content_removed"


class NotOwnerError(ContentError):
    """It is somebody else's."""

    code = "not_owner"


class SuspendedError(ContentError):
    """The caller may do nothing new."""

    code = "suspended"


class ForbiddenTransitionError(ContentError):
    """Its status does not allow that."""

    code = "status_conflict"


class DuplicateError(ContentError):
    """The same image was uploaded before; its first uploader keeps the credit."""

    code = "duplicate_content"

    def __init__(self, content_id: str | None) -> None:
        super().__init__("This image was uploaded before; its first uploader keeps the credit.")
        self.extra = {"contentId": content_id}


class TakenDownError(ContentError):
    """The same image was removed; it cannot come back."""

    code = "removed_before"


class UnsupportedFormatError(ContentError):
    """The bytes are no image of a kind that we accept."""

    code = "unsupported_format"


class EmptyFileError(ContentError):
    """The file holds nothing."""

    code = "empty_file"


class FileTooLargeError(ContentError):
    """The file has more bytes than accepted."""

    code = "file_too_large"


class InvalidMetadataError(ContentError):
    """Title, description or tags break a rule; `extra.errors` names which."""

    code = "invalid_metadata"

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        error = {"pointer": f"/{field}", "code": "invalid", "detail": detail}
        self.extra = {"errors": [error]}


class TransformUnavailableError(ContentError):
    """No image AI is set up here."""

    code = "transform_unavailable"

    def __init__(self) -> None:
        super().__init__("Memes cannot be transformed here: no image AI is set up.")


class ReportNotFoundError(ContentError):
    """There is no such report."""

    code = "report_not_found"


class AlreadyDecidedError(ContentError):
    """The report is closed."""

    code = "report_decided"


class QuotaError(ContentError):
    """Too much for now; `Retry-After` says for how long, in seconds."""

    retry_after_s = 5

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.headers = {"Retry-After": str(self.retry_after_s)}


class UserQueueFullError(QuotaError):
    """Too many of the user's own uploads are being processed."""

    code = "upload_queue_full"


class QueueFullError(QuotaError):
    """Too many uploads of everybody are being processed."""

    code = "uploads_busy"


class DailyQuotaError(QuotaError):
    """Too many uploads within a day."""

    code = "daily_quota_exceeded"
    retry_after_s = 3600


class TransformQuotaError(QuotaError):
    """Too many transformations of one user at once, or within a day."""

    code = "transform_quota_exceeded"
    retry_after_s = 60


class ReportQuotaError(QuotaError):
    """Too many reports by one reader within a day."""

    code = "report_quota_exceeded"
    retry_after_s = 3600


DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
"""With these an OSError says that a disk is full or fails, whatever file was on it."""


class ImageRejectedError(Exception):
    """An upload does not become a meme."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
