"""Python lists as PostgreSQL arrays in binary form: psycopg's own way takes several times as long.

The form is that of PostgreSQL's `array_recv`: number of dimensions, whether there may be nulls, the
type of the elements; length and lower bound; then each element with its length, -1 for null.
"""

import struct
from collections.abc import Sequence
from typing import cast
from uuid import UUID

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEAD = struct.Struct(">iiIii")
_EMPTY = struct.Struct(">iiI")
_NULL = struct.pack(">i", -1)
_BYTEA, _BIGINT, _INT, _TEXT, _UUID = 17, 20, 23, 25, 2950  # pg_type.dat


class PgArray(bytes):
    """A parameter that is sent as it is; the statement says of which type it is."""

    __slots__ = ()


class _PgArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: PgArray) -> PgArray:
        return obj


psycopg.adapters.register_dumper(PgArray, _PgArrayDumper)


def bigints(values: Sequence[int | None]) -> PgArray:
    """A `bigint[]`."""
    if None in values:
        return _with_nulls(
            _BIGINT, [None if v is None else v.to_bytes(8, signed=True) for v in values]
        )
    return _fixed(_BIGINT, "iq", 8, cast("Sequence[int]", values))


def ints(values: Sequence[int]) -> PgArray:
    """An `int[]`."""
    return _fixed(_INT, "ii", 4, values)


def texts(values: Sequence[str | None]) -> PgArray | None:
    """A `text[]`; null as a whole if all its elements are."""
    return _variable(_TEXT, [None if value is None else value.encode() for value in values])


def byteas(values: Sequence[bytes | None]) -> PgArray | None:
    """A `bytea[]`; null as a whole if all its elements are."""
    return _variable(_BYTEA, values)


def uuids(values: Sequence[UUID | None]) -> PgArray | None:
    """A `uuid[]`; null as a whole if all its elements are."""
    return _variable(_UUID, [None if value is None else value.bytes for value in values])


def _fixed(element: int, form: str, size: int, values: Sequence[int]) -> PgArray:
    number = len(values)
    pairs = [part for value in values for part in (size, value)]
    return PgArray(_head(element, number) + struct.pack(f">{form * number}", *pairs))


def _variable(element: int, values: Sequence[bytes | None]) -> PgArray | None:
    if values and all(value is None for value in values):
        return None
    return _with_nulls(element, values)


def _with_nulls(element: int, values: Sequence[bytes | None]) -> PgArray:
    parts = [_NULL if value is None else len(value).to_bytes(4) + value for value in values]
    return PgArray(_head(element, len(values)) + b"".join(parts))


def _head(element: int, number: int) -> bytes:
    if number == 0:
        return _EMPTY.pack(0, 0, element)
    return _HEAD.pack(1, 1, element, number, 1)
