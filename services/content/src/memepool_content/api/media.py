"""GET and HEAD /content/{id}/media/{variant}: the bytes."""

from collections.abc import AsyncIterator
from typing import Annotated, cast
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from memepool_common.db import Database
from memepool_common.web.deps import OptionalCaller
from memepool_common.web.problem import Problem
from memepool_content.adapters.media_store import MediaStore, media_key
from memepool_content.api.parameters import ContentId
from memepool_content.api.ranges import UnsatisfiableError, none_match, requested_range
from memepool_content.api.schemas import VariantName
from memepool_content.domain.errors import NotFoundError
from memepool_content.domain.meme import Variant
from memepool_content.store import memes as store
from memepool_content.use_cases import memes

VERSION_MAX = 2**31 - 1
IMMUTABLE = "public, max-age=31536000, immutable"
CURRENT = "public, max-age=60"
"""Without `v` the address means the newest version, which may change."""
# Opened on its own, the file can run nothing, whatever a browser takes it for.
_ARMOUR = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Content-Disposition": "inline",
    "Accept-Ranges": "bytes",
}
_BYTES = {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}

router = APIRouter(tags=["content"])


@router.get(
    "/content/{contentId}/media/{variant}",
    response_class=Response,
    responses={200: _BYTES, 206: _BYTES, 304: {"description": "You have it"}},
    summary="The image itself",
)
async def read_content_media(
    request: Request,
    content_id: ContentId,
    variant: VariantName,
    caller: OptionalCaller,
    v: Annotated[int | None, Query(ge=1, le=VERSION_MAX, description="version")] = None,
) -> Response:
    """With `v`, as in the variants' `url`, the bytes never change and caches keep them for a year;
    without it, it is the newest version and caches keep it for a minute. Supports `If-None-Match`,
    `Range` with one range, and `If-Range`."""
    database = cast("Database", request.app.state.database)
    viewer_id = caller.user_id if caller else None
    found = await _find(database, content_id, viewer_id, variant, v)
    etag = f'"{found.sha256}"'
    headers = {**_ARMOUR, "ETag": etag, "Cache-Control": CURRENT if v is None else IMMUTABLE}
    if none_match(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    status, start, end = 200, 0, found.size_bytes
    try:
        part = requested_range(
            request.headers.get("range"), request.headers.get("if-range"), etag, found.size_bytes
        )
    except UnsatisfiableError:
        detail = f"The image has {found.size_bytes} bytes; the range begins behind them."
        outside = {"Content-Range": f"bytes */{found.size_bytes}"}
        raise Problem(416, "range_not_satisfiable", detail, headers=outside) from None
    if part is not None and request.method == "GET":
        status, (start, end) = 206, part
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.size_bytes}"
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(headers=headers, media_type=found.mime_type)
    store_ = cast("MediaStore", request.app.state.media_store)
    pieces = await _open(store_, database, content_id, found, start, end)
    return StreamingResponse(pieces, status, headers, media_type=found.mime_type)


router.add_api_route(
    "/content/{contentId}/media/{variant}",
    read_content_media,
    methods=["HEAD"],
    include_in_schema=False,
)


async def _find(
    database: Database,
    content_id: UUID,
    viewer_id: UUID | None,
    name: VariantName,
    version: int | None,
) -> Variant:
    async with database.read() as session:
        meme = await memes.visible(session, content_id, viewer_id, admin=False)
        if version is None or version == meme.version:
            found = next((item for item in meme.variants if item.name == name), None)
        else:
            found = await store.find_variant(session, content_id, version, name)
    if found is None:
        raise NotFoundError("There is no such image of this meme.")
    return found


async def _open(
    media: MediaStore, database: Database, content_id: UUID, found: Variant, start: int, end: int
) -> AsyncIterator[bytes]:
    """The bytes. If they are gone, the meme has just been removed, and that is the answer."""
    try:
        return await media.open(media_key(content_id, found.sha256), start, end)
    except FileNotFoundError:
        async with database.read() as session:
            await memes.visible(session, content_id, None, admin=True)
        raise
