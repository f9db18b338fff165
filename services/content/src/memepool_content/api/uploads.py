"""POST /content/upload."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import cast

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import ValidationError

from memepool_common.db import Database
from memepool_common.web.deps import CreatorCaller, IdempotencyKey
from memepool_common.web.idempotency import once
from memepool_common.web.problem import FieldError, Problem
from memepool_content.adapters.media_store import MediaStore, new_upload_key
from memepool_content.adapters.wakeups import wake_worker
from memepool_content.api.multipart import ReceivedUpload, received_upload
from memepool_content.api.schemas import Content, TransformRequest, content_of, upload_body
from memepool_content.api.streams import Streams
from memepool_content.domain.errors import UnsupportedFormatError
from memepool_content.domain.image import sniff, unsupported
from memepool_content.domain.meme import clean_description, clean_tags, clean_title, title_of_file
from memepool_content.domain.transformation import Wanted
from memepool_content.settings import AituboSettings, UploadSettings
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
    aitubo = cast("AituboSettings | None", request.app.state.aitubo)
    streams = cast("Streams", request.app.state.upload_streams)
    if key is None:  # a repeated call gets its old answer, however full the queue is now
        async with database.transaction() as session:
            await uploads.admit(session, caller.user_id, limits, datetime.now(UTC))
    with streams.one_of(caller.user_id):
        async with received_upload(request, limits) as received:
            upload = _described(received)
            store = cast("MediaStore", request.app.state.media_store)
            async with database.transaction() as session:
                await uploads.announce(session, upload.key, datetime.now(UTC))
            await store.put(upload.key, received.path)
    try:
        async with database.transaction() as session:

            async def accept() -> Content:
                now = datetime.now(UTC)
                meme = await uploads.accept(session, caller.user_id, upload, limits, aitubo, now)
                return content_of(meme, caller.user_id)

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
                    "transform": upload.transform and asdict(upload.transform),
                },
                status=202,
                act=accept,
            )
    finally:  # refused, or answered before: the object is not needed
        async with database.transaction() as session:
            await uploads.forget(session, upload.key, datetime.now(UTC))
    answer.headers["Location"] = f"/content/{orjson.loads(answer.body)['id']}"
    await wake_worker(database)
    return answer


def _described(received: ReceivedUpload) -> NewUpload:
    """The upload, checked as far as that goes without decoding it."""
    fields = received.fields
    if sniff(received.head) is None:
        raise UnsupportedFormatError(unsupported())
    title = clean_title(fields["title"][0]) if "title" in fields else None
    return NewUpload(
        key=new_upload_key(),
        sha256=received.sha256,
        title=title or title_of_file(received.filename),
        description=clean_description(fields.get("description", [""])[0]),
        tags=clean_tags(tag for text in fields.get("tags", ()) for tag in text.split(",")),
        transform=_wanted(fields["transform"][0]) if fields.get("transform") else None,
    )


def _wanted(text: str) -> Wanted | None:
    """The part `transform`: JSON, as the body of a transformation; empty is none."""
    if not text.strip():
        return None
    try:
        return TransformRequest.model_validate_json(text).wanted()
    except ValidationError as error:
        errors = [
            FieldError(
                pointer="/".join(("/transform", *map(str, found["loc"]))),
                code=found["type"],
                detail=found["msg"],
            )
            for found in error.errors(include_url=False, include_input=False)
        ]
        detail = "The part `transform` must be JSON, as the body of POST /content/{id}/transform."
        raise Problem(422, "invalid_request", detail, errors=errors) from None
