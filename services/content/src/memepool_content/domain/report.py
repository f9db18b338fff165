"""A reader's report of a meme, and what an admin decided on it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

ReportState = Literal["open", "removed", "dismissed"]


@dataclass(frozen=True, slots=True)
class Report:
    """A report; open until it is decided, or until the meme is removed anyway."""

    id: UUID
    content_id: UUID
    reporter_id: UUID
    reason: str
    detail: str | None
    state: ReportState
    decided_by: UUID | None
    decision_reason: str | None
    created_at: datetime
    decided_at: datetime | None
