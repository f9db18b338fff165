"""GET /content/{id}/source: the image for the image AI, under an address that is a secret."""

from datetime import UTC, datetime
from typing import Annotated, cast

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from memepool_common.db import Database
from memepool_content.adapters.media_store import MediaStore, media_key
from memepool_content.adapters.source_address import SourceAddresses
from memepool_content.api.parameters import ContentId
from memepool_content.domain.errors import NotFoundError
from memepool_content.settings import AituboSettings
from memepool_content.store import renditions
from memepool_content.use_cases import memes

router = APIRouter(tags=["content"])


@router.get(
    "/content/{contentId}/source", include_in_schema=False, response_class=StreamingResponse
)
async def read_content_source(
    request: Request,
    content_id: ContentId,
    v: Annotated[int, Query(ge=1, le=2**31 - 1)],
    expires: Annotated[int, Query(ge=0, le=2**40)],
    signature: Annotated[str, Query(max_length=64)],
) -> Response:
    """A wrong, old or foreign address is answered as if there were nothing."""
    aitubo = cast("AituboSettings | None", request.app.state.aitubo)
    nothing = NotFoundError("There is no such image.")
    now = datetime.now(UTC)
    if aitubo is None or not SourceAddresses(aitubo).valid(content_id, v, expires, signature, now):
        raise nothing
    database = cast("Database", request.app.state.database)
    async with database.read() as session:
        await memes.visible(session, content_id, None, admin=True)
        originals = await renditions.of_version(session, content_id, v)
    found = next((variant for variant in originals if variant.name == "full"), None)
    if found is None:
        raise nothing
    media = cast("MediaStore", request.app.state.media_store)
    key = media_key(content_id, found.sha256)
    headers = {"Content-Length": str(found.size_bytes), "Cache-Control": "private, no-store"}
    try:
        pieces = await media.open(key, 0, found.size_bytes)
    except FileNotFoundError:
        raise nothing from None
    return StreamingResponse(pieces, 200, headers, media_type=found.mime_type)
