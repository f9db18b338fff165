"""Ids in paths."""

from typing import Annotated
from uuid import UUID

from fastapi import Path

ContentId = Annotated[UUID, Path(alias="contentId")]
JobId = Annotated[UUID, Path(alias="jobId")]
ReportId = Annotated[UUID, Path(alias="reportId")]
