"""Which reads may be answered with what somebody else was answered a moment ago."""

from collections.abc import Mapping
from typing import Any

from memepool_gateway.cache.store import BODY_BYTES_MAX
from memepool_gateway.proxy.headers import Headers

_OWN = frozenset({b"authorization", b"cookie", b"range", b"cache-control", b"pragma"})
_CONDITIONAL = b"if-"
_OF_ONE_CLIENT = frozenset({b"set-cookie", b"vary", b"content-encoding"})


def asks_for_everybody(scope: Mapping[str, Any]) -> bool:
    """Whether a GET is one of nobody in particular, for the whole answer.

    `Cache-Control: no-cache` asks for a fresh one.
    """
    return scope["method"] == "GET" and not any(
        name in _OWN or name.startswith(_CONDITIONAL) for name, _ in scope["headers"]
    )


def is_for_everybody(status: int, headers: Headers) -> bool:
    """Whether an answer may be given to others, too: small, and the same for every client."""
    found = {name: value.lower() for name, value in headers}
    length = found.get(b"content-length", b"")
    control = found.get(b"cache-control", b"")
    return (
        status == 200
        and length.isdigit()
        and int(length) <= BODY_BYTES_MAX
        and not _OF_ONE_CLIENT & found.keys()
        and b"no-store" not in control
        and b"private" not in control
    )
