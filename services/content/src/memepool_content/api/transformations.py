"""POST /content/{id}/transform and GET /content/{id}/jobs/{jobId}."""

from datetime import UTC, datetime
from typing import cast

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from memepool_common.db import Database
from memepool_common.web.deps import Caller, CreatorCaller, IdempotencyKey, ReadSessionDep
from memepool_common.web.idempotency import once
from memepool_content.adapters.wakeups import wake_worker
from memepool_content.api.parameters import ContentId, JobId
from memepool_content.api.schemas import Job, TransformRequest, job_of
from memepool_content.domain.errors import NotFoundError, NotOwnerError
from memepool_content.settings import AituboSettings
from memepool_content.use_cases import memes, transformations

router = APIRouter(tags=["content"])


@router.post(
    "/content/{contentId}/transform",
    status_code=202,
    response_model=Job,
    summary="Transform a meme by AI",
)
async def transform_content(
    request: Request,
    content_id: ContentId,
    body: TransformRequest,
    caller: CreatorCaller,
    key: IdempotencyKey = None,
) -> Response:
    """Its owner's meme gets a new version of the image; follow `Location` until `state` is `done`
    or `failed`. A failed one leaves the meme as it was, and may be asked for again."""
    database = cast("Database", request.app.state.database)
    aitubo = cast("AituboSettings | None", request.app.state.aitubo)
    async with database.transaction() as session:

        async def act() -> Job:
            meme = await memes.visible(session, content_id, caller.user_id, admin=False, lock=True)
            if meme.creator_id != caller.user_id:
                raise NotOwnerError("Only its creator may transform a meme.")
            now = datetime.now(UTC)
            return job_of(await transformations.start(session, meme, body.wanted(), aitubo, now))

        answer = await once(
            session,
            scope=str(caller.user_id),
            operation="transformContent",
            key=key,
            request={"content_id": content_id, "body": body.model_dump()},
            status=202,
            act=act,
        )
    job_id = orjson.loads(answer.body)["id"]
    answer.headers["Location"] = f"/content/{content_id}/jobs/{job_id}"
    await wake_worker(database)
    return answer


@router.get("/content/{contentId}/jobs/{jobId}", summary="A transformation's state")
async def read_content_job(
    content_id: ContentId, job_id: JobId, caller: Caller, session: ReadSessionDep
) -> Job:
    """For the meme's owner, and for admins."""
    admin = caller.role == "admin"
    meme = await memes.visible(session, content_id, caller.user_id, admin=admin)
    if meme.creator_id != caller.user_id and not admin:
        raise NotFoundError(f"This meme has no job {job_id}.")
    return job_of(await transformations.read(session, meme, job_id))
