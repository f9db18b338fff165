"""Reports: made by readers, decided by admins."""

from datetime import UTC, datetime
from typing import cast
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import Response

from memepool_common.db import Database
from memepool_common.web.deps import AdminCaller, Caller, IdempotencyKey, ReadSessionDep
from memepool_common.web.idempotency import once
from memepool_common.web.model import (
    PAGE_SIZE_DEFAULT,
    Cursor,
    Limit,
    Page,
    cut_page,
    decode_cursor,
)
from memepool_content.api.parameters import ContentId, ReportId
from memepool_content.api.schemas import DecisionRequest, Report, ReportRequest, report_of
from memepool_content.store import reports as store
from memepool_content.use_cases import reports

router = APIRouter(tags=["content"])


@router.post(
    "/content/{contentId}/reports",
    status_code=201,
    response_model=Report,
    summary="Report a meme",
)
async def report_content(
    request: Request,
    content_id: ContentId,
    body: ReportRequest,
    caller: Caller,
    key: IdempotencyKey = None,
) -> Response:
    """An admin looks at it and decides. While that is open, a second report is the first one."""
    database = cast("Database", request.app.state.database)
    async with database.transaction() as session:

        async def act() -> Report:
            now = datetime.now(UTC)
            return report_of(
                await reports.report(
                    session, content_id, caller.user_id, body.reason, body.detail, now
                )
            )

        return await once(
            session,
            scope=str(caller.user_id),
            operation="reportContent",
            key=key,
            request={"content_id": content_id, "body": body.model_dump()},
            status=201,
            act=act,
        )


@router.get("/content/reports", summary="Reports that wait for a decision")
async def list_content_reports(
    caller: AdminCaller,  # noqa: ARG001 - only admins come this far
    session: ReadSessionDep,
    limit: Limit = PAGE_SIZE_DEFAULT,
    cursor: Cursor = None,
) -> Page[Report]:
    """For admins, the oldest first."""
    after = decode_cursor(cursor, UUID)[0] if cursor is not None else None
    found = await store.queue(session, after, limit + 1)
    shown, more = cut_page(found, limit, lambda item: (item.id,))
    return Page(items=[report_of(item) for item in shown], next_cursor=more)


@router.post(
    "/content/reports/{reportId}/decision",
    status_code=201,
    response_model=Report,
    summary="Decide a report",
)
async def decide_content_report(
    request: Request,
    report_id: ReportId,
    body: DecisionRequest,
    caller: AdminCaller,
    key: IdempotencyKey = None,
) -> Response:
    """For admins, with the reason. `remove` takes the meme down: its bytes go, its hashes stay, and
    all its open reports are closed."""
    database = cast("Database", request.app.state.database)
    async with database.transaction() as session:

        async def act() -> Report:
            now = datetime.now(UTC)
            return report_of(
                await reports.decide(
                    session, report_id, caller.user_id, body.decision, body.reason, now
                )
            )

        return await once(
            session,
            scope=str(caller.user_id),
            operation="decideContentReport",
            key=key,
            request={"report_id": report_id, "body": body.model_dump()},
            status=201,
            act=act,
        )
