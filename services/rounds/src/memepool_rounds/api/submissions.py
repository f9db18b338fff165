"""Memes in a round."""

from datetime import UTC, datetime
from uuid import UUID

from fastapi import APIRouter, Response

from memepool_common.web.deps import (
    Caller,
    CreatorCaller,
    IdempotencyKey,
    ReadSessionDep,
    SessionDep,
)
from memepool_common.web.idempotency import once
from memepool_common.web.model import (
    PAGE_SIZE_DEFAULT,
    Cursor,
    Limit,
    Page,
    cut_page,
    decode_cursor,
)
from memepool_rounds.api.deps import (
    ContentId,
    DatabaseDep,
    RoundId,
    RoundText,
    SettingsDep,
    wait_for_meme,
)
from memepool_rounds.api.models import Submission, SubmissionRequest
from memepool_rounds.store import submissions
from memepool_rounds.use_cases.entering import Limits, enter_meme, withdraw_meme
from memepool_rounds.use_cases.rounds import find_round

router = APIRouter(tags=["rounds"])


@router.get("/rounds/{roundId}/submissions")
async def list_submissions(
    round_id: RoundId,
    session: ReadSessionDep,
    limit: Limit = PAGE_SIZE_DEFAULT,
    cursor: Cursor = None,
) -> Page[Submission]:
    """The memes in a round, in the order in which they came."""
    after = decode_cursor(cursor, datetime, UUID) if cursor is not None else None
    stored = await find_round(session, round_id)
    place = (after[0], after[1]) if after else None
    found = await submissions.page(session, stored.id, after=place, limit=limit + 1)
    shown, more = cut_page(
        found, limit, lambda each: (each.submitted_at.isoformat(), each.content_id)
    )
    return Page(items=[Submission.of(each) for each in shown], next_cursor=more)


@router.post("/rounds/{roundId}/submissions", status_code=201, response_model=Submission)
async def submit_meme(
    round_text: RoundText,
    round_id: RoundId,
    body: SubmissionRequest,
    caller: CreatorCaller,
    database: DatabaseDep,
    settings: SettingsDep,
    key: IdempotencyKey = None,
) -> Response:
    """Enter a meme of your own, one per creator and round. A full round queues it for the next."""
    await wait_for_meme(database, body.content_id, settings.wait.projection_s_max)
    limits = Limits(settings.rounds.submissions_max, settings.rounds.queue_max)
    async with database.transaction() as session:

        async def enter() -> Submission:
            entry = await enter_meme(
                session,
                round_id=round_id,
                content_id=body.content_id,
                creator_id=caller.user_id,
                limits=limits,
                now=datetime.now(UTC),
            )
            return Submission.fresh(entry)

        return await once(
            session,
            scope=str(caller.user_id),
            operation="submitMeme",
            key=key,
            request={"roundId": round_text, "contentId": str(body.content_id)},
            status=201,
            act=enter,
        )


@router.delete("/rounds/{roundId}/submissions/{contentId}", status_code=204)
async def withdraw_submission(
    round_id: RoundId, content_id: ContentId, caller: Caller, session: SessionDep
) -> None:
    """Take your meme out of a round that is not tallied, or out of the queue. Stakes go back;
    your entry in this round stays used up."""
    await withdraw_meme(
        session,
        round_id=round_id,
        content_id=content_id,
        caller_id=caller.user_id,
        is_admin=caller.role == "admin",
        now=datetime.now(UTC),
    )
