"""Calls whose contract stands and whose body is still to come: reports."""
# ruff: noqa: ARG001 - the signatures are the contract; nothing reads them yet

from typing import Any
from uuid import UUID

from fastapi import APIRouter

from memepool_common.web.deps import AdminCaller, Caller, IdempotencyKey
from memepool_common.web.model import PAGE_SIZE_DEFAULT, Cursor, Limit, Page
from memepool_common.web.problem import not_built_yet
from memepool_content.api.schemas import (
    DecisionRequest,
    Report,
    ReportRequest,
)

router = APIRouter(tags=["content"])
_LATER: dict[str, Any] = {"openapi_extra": {"x-not-built-yet": True}}


@router.post("/content/{content_id}/reports", status_code=201, summary="Report a meme", **_LATER)
async def report_content(
    content_id: UUID, body: ReportRequest, caller: Caller, key: IdempotencyKey = None
) -> Report:
    """An admin looks at it and decides."""
    raise not_built_yet("reportContent")


@router.get("/content/reports", summary="Reports that wait for a decision", **_LATER)
async def list_content_reports(
    caller: AdminCaller, limit: Limit = PAGE_SIZE_DEFAULT, cursor: Cursor = None
) -> Page[Report]:
    """For admins."""
    raise not_built_yet("listContentReports")


@router.post(
    "/content/reports/{report_id}/decision", status_code=201, summary="Decide a report", **_LATER
)
async def decide_content_report(
    report_id: UUID, body: DecisionRequest, caller: AdminCaller, key: IdempotencyKey = None
) -> Report:
    """For admins, with the reason."""
    raise not_built_yet("decideContentReport")
