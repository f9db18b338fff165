"""GET and HEAD /content/{id}/media/{variant}: the bytes."""

import re
from collections.abc import AsyncIterator
from typing import Annotated, cast
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from memepool_common.web.problem import Problem
from memepool_content.api.accept import chosen
from memepool_content.api.parameters import ContentId
from memepool_content.api.ranges import UnsatisfiableError, none_match, requested_range
from memepool_content.api.schemas import VariantName
from memepool_content.domain.meme import Variant
from memepool_content.use_cases.media import Media

MEDIA_PATH = "/content/{contentId}/media/{variant}"
METHODS = ("GET", "HEAD")
"""Each is a route of its own, since the API's document names but the first."""
VERSION_MAX = 2**31 - 1
_IMMUTABLE = b"public, max-age=31536000, immutable"
_CURRENT = b"public, max-age=60"
"""Without `v` the address means the newest version, which may change."""
# Opened on its own, the file can run nothing, whatever a browser takes it for.
_ARMOUR = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"content-disposition", b"inline"),
    (b"accept-ranges", b"bytes"),
    (b"vary", b"Accept"),
]
_BYTES = {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
_NAMES = {name.value: name for name in VariantName}
_PLAIN_QUERY = re.compile(rb"(?:v=([1-9][0-9]{0,8}))?")


class _MediaRoute(APIRoute):
    """Calls the endpoint itself when the parameters are plain: the framework's way to it costs more
    than sending an image. Everything else, and so every refusal, goes that way."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["method"] not in METHODS:
            raise HTTPException(405, headers={"Allow": ", ".join(METHODS)})
        plain = _plain(scope)
        if plain is None:
            await super().handle(scope, receive, send)
            return
        response = await read_content_media(Request(scope, receive), *plain)
        await response(scope, receive, send)


def _plain(scope: Scope) -> tuple[UUID, VariantName, int | None] | None:
    """The parameters of a request, or None if the framework should look at them."""
    query = _PLAIN_QUERY.fullmatch(scope["query_string"])
    variant = _NAMES.get(scope["path_params"]["variant"])
    if query is None or variant is None:
        return None
    try:
        content_id = UUID(scope["path_params"]["contentId"])
    except ValueError:
        return None
    return content_id, variant, int(query[1]) if query[1] else None


router = APIRouter(tags=["content"], route_class=_MediaRoute)


@router.get(
    MEDIA_PATH,
    response_class=Response,
    responses={200: _BYTES, 206: _BYTES, 304: {"description": "You have it"}},
    summary="The image itself",
)
async def read_content_media(
    request: Request,
    content_id: ContentId,
    variant: VariantName,
    v: Annotated[int | None, Query(ge=1, le=VERSION_MAX, description="version")] = None,
) -> Response:
    """In the smallest format that `Accept` names: AVIF, WebP, JPEG or PNG. Without `Accept`, and
    with a wildcard, it is the one in the variants' `mimeType`, whose SHA-256 is `sha256`.

    With `v`, as in the variants' `url`, caches keep the bytes for a year; without it, it is the
    newest version and caches keep it for a minute. Supports `If-None-Match`, `Range` with one
    range, and `If-Range`."""
    media = cast("Media", request.app.state.media)
    asked = request.headers
    found = chosen(_joined(asked, "accept"), await media.renditions(content_id, variant.value, v))
    etag = f'"{found.sha256}"'
    headers = [*common_headers(found, pinned=v is not None)]
    if none_match(_joined(asked, "if-none-match"), etag):
        return _Answer(304, headers)
    part = _part(asked, etag, found) if request.method == "GET" else None
    start, end = part or (0, found.size_bytes)
    headers.append((b"content-type", found.mime_type.encode()))
    headers.append((b"content-length", b"%d" % (end - start)))
    if part is not None:
        headers.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, found.size_bytes)))
    if request.method == "HEAD":
        return _Answer(200, headers)
    pieces = await media.open(content_id, found, start, end)
    return _Answer(206 if part else 200, headers, pieces, end - start)


def common_headers(found: Variant, *, pinned: bool) -> list[tuple[bytes, bytes]]:
    """What 200, 206 and 304 have in common."""
    control = _IMMUTABLE if pinned else _CURRENT
    return [*_ARMOUR, (b"etag", b'"%b"' % found.sha256.encode()), (b"cache-control", control)]


router.add_api_route(
    MEDIA_PATH,
    read_content_media,
    methods=["HEAD"],
    include_in_schema=False,
)


def _joined(asked: Headers, name: str) -> str | None:
    """A header that is a list, and so may come in several lines."""
    return ", ".join(asked.getlist(name)) or None


def _part(asked: Headers, etag: str, found: Variant) -> tuple[int, int] | None:
    wanted = asked.get("range")
    if wanted is None:
        return None
    try:
        return requested_range(wanted, asked.get("if-range"), etag, found.size_bytes)
    except UnsatisfiableError:
        detail = f"The image has {found.size_bytes} bytes; the range begins behind them."
        outside = {"Content-Range": f"bytes */{found.size_bytes}"}
        raise Problem(416, "range_not_satisfiable", detail, headers=outside) from None


class _Answer(Response):
    """A head, and pieces of a body that are sent as they come. Nothing watches for a client that
    goes away: what is left is a few pieces, and the server drops them."""

    def __init__(
        self,
        status: int,
        headers: list[tuple[bytes, bytes]],
        pieces: AsyncIterator[bytes] | None = None,
        size_bytes: int = 0,
    ) -> None:
        self.status_code = status
        self.raw_headers = headers
        self.background = None
        self._pieces = pieces
        self._size_bytes = size_bytes

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it."""
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        if self._pieces is None:
            await send({"type": "http.response.body", "body": b""})
            return
        left = self._size_bytes
        async for piece in self._pieces:
            left -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
