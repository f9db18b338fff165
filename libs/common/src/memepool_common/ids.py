"""Identifiers."""

from uuid import UUID

import uuid_utils
from uuid_utils.compat import uuid7 as _uuid7

UUID_PATTERN = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
"""`UUID` itself also takes braces, digits of other scripts and line breaks."""


def uuid7() -> UUID:
    """A time-ordered UUID (RFC 9562, version 7): rows made together lie together in an index."""
    return _uuid7()


def uuid7_text() -> str:
    """The same as text, for a fraction of the time."""
    return str(uuid_utils.uuid7())
