"""HTTP ranges and validators (RFC 9110, sections 13 and 14), for one strong ETag."""

import re

_RANGE = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.ASCII | re.IGNORECASE)
_TAGS = re.compile(r'(?:W/)?("[^"]*")')


class UnsatisfiableError(Exception):
    """The range lies outside of what there is: 416."""


def none_match(header: str | None, etag: str) -> bool:
    """Whether `If-None-Match` says that the client has these bytes already (weak comparison)."""
    if header is None:
        return False
    return header.strip() == "*" or etag in _TAGS.findall(header)


def requested_range(
    header: str | None, if_range: str | None, etag: str, size_bytes: int
) -> tuple[int, int] | None:
    """The one range to send, (start, end) without the end; None to send everything.

    A header that is malformed, asks for several ranges or is tied to other bytes is ignored, as
    the RFC allows.

    Raises:
        UnsatisfiableError
    """
    if header is None or (if_range is not None and if_range.strip() != etag):
        return None
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        if not last:
            return None
        if int(last) == 0:
            raise UnsatisfiableError
        return max(0, size_bytes - int(last)), size_bytes
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size_bytes:
        raise UnsatisfiableError
    return start, min(int(last) + 1, size_bytes) if last else size_bytes
