"""Identifiers."""

from uuid import UUID

from uuid_utils.compat import uuid7 as _uuid7


def uuid7() -> UUID:
    """A time-ordered UUID (RFC 9562, version 7): rows made together lie together in an index."""
    return _uuid7()
