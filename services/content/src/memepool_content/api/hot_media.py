"""The answers of `media` that lie ready in memory, without the way through the application.

They are counted like all others, but neither timed, logged nor traced; a request of a sampled trace
goes the long way, and so does everything that is not plain.
"""

import itertools
import re
from collections.abc import Callable
from functools import lru_cache
from uuid import UUID

from starlette.types import Scope

from memepool_common import telemetry
from memepool_common.ids import uuid7
from memepool_common.server import Shortcut
from memepool_content.api.accept import chosen
from memepool_content.api.media import MEDIA_PATH, common_headers
from memepool_content.domain.meme import Variant
from memepool_content.use_cases.media import Media

_PATH = re.compile(r"/content/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/media/([a-z]+)")
_QUERY = re.compile(rb"(?:v=([1-9][0-9]{0,8}))?")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_NOT_SAMPLED = b"-00"
_RELEVANT = frozenset({b"accept", b"traceparent", b"x-request-id", b"range", b"if-none-match"})


def shortcut_to(media: Callable[[], Media | None]) -> Callable[[Scope], Shortcut | None]:
    """The shortcut of the API; `media` gives None until the process has started."""
    process, numbers = str(uuid7()).encode() + b"-", itertools.count()
    counter = telemetry.HTTP_REQUESTS.labels("content", "GET", MEDIA_PATH, "200")

    def find(scope: Scope) -> Shortcut | None:
        hot = media()
        if hot is None or scope["method"] != "GET":
            return None
        address = _address(scope["path"], scope["query_string"])
        if address is None:
            return None
        said = [header for header in scope["headers"] if header[0] in _RELEVANT]
        asked = dict(said)
        request_id = asked.get(b"x-request-id") or b"%b%x" % (process, next(numbers))
        if (
            len(asked) < len(said)
            or b"range" in asked
            or b"if-none-match" in asked
            or not asked.get(b"traceparent", _NOT_SAMPLED).endswith(_NOT_SAMPLED)
            or not _REQUEST_ID.fullmatch(request_id)
        ):
            return None
        content_id, name, version = address
        offers = hot.renditions_at_hand(content_id, name, version)
        if offers is None:
            return None
        accept = asked.get(b"accept")
        found = chosen(None if accept is None else accept.decode("latin-1"), offers)
        body = hot.bytes_at_hand(content_id, found)
        if body is None:
            return None
        counter.inc()
        head = b"%bx-request-id: %b\r\n" % (_lines(found, version is not None), request_id)
        return Shortcut(200, head, body)

    return find


@lru_cache(maxsize=10_000)
def _address(path: str, query: bytes) -> tuple[UUID, str, int | None] | None:
    """Meme, variant and version, if path and query are plain."""
    plain, pinned = _PATH.fullmatch(path), _QUERY.fullmatch(query)
    if plain is None or pinned is None:
        return None
    return UUID(plain[1]), plain[2], int(pinned[1]) if pinned[1] else None


@lru_cache(maxsize=10_000)
def _lines(found: Variant, pinned: bool) -> bytes:
    return b"".join(
        b"%b: %b\r\n" % header
        for header in (
            *common_headers(found, pinned=pinned),
            (b"content-type", found.mime_type.encode()),
            (b"content-length", b"%d" % found.size_bytes),
        )
    )
