"""POST /content/upload."""

import asyncio
from datetime import UTC, datetime
from typing import cast

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from memepool_common.db import Database
from memepool_common.web.deps import CreatorCaller, IdempotencyKey
from memepool_common.web.idempotency import once
from memepool_common.web.problem import not_built_yet
from memepool_content.adapters.media_store import MediaStore, new_upload_key
from memepool_content.adapters.wakeups import wake_worker
from memepool_content.api.multipart import ReceivedUpload, received_upload
from memepool_content.api.schemas import Content, content_of, upload_body
from memepool_content.domain.errors import QueueFullError, UnsupportedFormatError
from memepool_content.domain.image import sniff, unsupported
from memepool_content.domain.meme import clean_description, clean_tags, clean_title, title_of_file
from memepool_content.settings import UploadSettings
from memepool_content.use_cases import uploads
from memepool_content.use_cases.uploads import NewUpload

router = APIRouter(tags=["content"])


@router.post(
    "/content/upload",
    status_code=202,
    response_model=Content,
    openapi_extra=upload_body(),
    summary="Upload a meme",
)
async def upload_content(
    request: Request, caller: CreatorCaller, key: IdempotencyKey = None
) -> Response:
    """The image is checked and encoded anew in the background: follow `Location` until `status`
    is `ready` or `rejected`. JPEG, PNG, WebP, GIF and AVIF, still or animated."""
    database = cast("Database", request.app.state.database)
    limits = cast("UploadSettings", request.app.state.upload_limits)
    streams = cast("asyncio.Semaphore", request.app.state.upload_streams)
    if key is None:  # a repeated call gets its old answer, however full the queue is now
        async with database.transaction() as session:
            await uploads.admit(session, caller.user_id, limits, datetime.now(UTC))
    if streams.locked():
        raise QueueFullError("Too many uploads are being received; try again soon.")
    async with streams, received_upload(request, limits) as received:
        upload = _described(received)
        store = cast("MediaStore", request.app.state.media_store)
        async with database.transaction() as session:
            await uploads.announce(session, upload.key, datetime.now(UTC))
        await store.put(upload.key, received.path)
    async with database.transaction() as session:

        async def accept() -> Content:
            now = datetime.now(UTC)
            return content_of(await uploads.accept(session, caller.user_id, upload, limits, now))

        answer = await once(
            session,
            scope=str(caller.user_id),
            operation="uploadContent",
            key=key,
            request={
                "sha256": upload.sha256,
                "title": upload.title,
                "description": upload.description,
                "tags": upload.tags,
            },
            status=202,
            act=accept,
        )
    answer.headers["Location"] = f"/content/{orjson.loads(answer.body)['id']}"
    await wake_worker(database)
    return answer


def _described(received: ReceivedUpload) -> NewUpload:
    """The upload, checked as far as that goes without decoding it."""
    fields = received.fields
    if fields.get("transform"):
        raise not_built_yet("transform on upload")
    if sniff(received.head) is None:
        raise UnsupportedFormatError(unsupported())
    title = clean_title(fields["title"][0]) if "title" in fields else None
    return NewUpload(
        key=new_upload_key(),
        sha256=received.sha256,
        title=title or title_of_file(received.filename),
        description=clean_description(fields.get("description", [""])[0]),
        tags=clean_tags(tag for text in fields.get("tags", ()) for tag in text.split(",")),
    )
