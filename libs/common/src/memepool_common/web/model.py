"""Shapes shared by every wire model: camelCase, UTC times, satoshis, pages and cursors."""

import base64
import binascii
import functools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

import orjson
from fastapi import Query
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    field_validator,
)
from pydantic.alias_generators import to_camel

from memepool_common.web.problem import FieldError, Problem

SATS_MAX = 21 * 10**14
"""All satoshis there can ever be: 21 million coins of 10^8."""
PAGE_SIZE_MAX = 100
PAGE_SIZE_DEFAULT = 50
CURSOR_LENGTH_MAX = 512


class WireModel(BaseModel):
    """A JSON object: camelCase on the wire, unknown fields ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True, frozen=True
    )


class RequestModel(WireModel):
    """The body of a request. Text that no database column can store is refused."""

    @field_validator("*", mode="after")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        return storable(value)


class MoneyModel(RequestModel):
    """The body of a call that moves money: an unknown field is refused by name."""

    model_config = ConfigDict(extra="forbid")


def storable(value: Any) -> Any:
    """The value itself; raises ValueError when it holds text that no database column can."""
    if isinstance(value, str):
        if "\x00" in value:
            raise ValueError("text may not hold the NUL character")
        if not value.isascii():
            _encodable(value)
    elif isinstance(value, list | tuple):
        for item in value:
            storable(item)
    return value


def _encodable(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("text may not hold lone surrogates") from error


QueryText = Annotated[str, AfterValidator(storable)]
"""Free text in a query or path."""


@functools.lru_cache(maxsize=64)  # what is told in batches was at the same instant
def rfc3339(instant: datetime) -> str:
    """An instant as RFC 3339 in UTC, to the microsecond, ending in Z."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _in_utc(instant: datetime) -> datetime:
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:  # the first and the last hours of the calendar
        raise ValueError("the time is out of range in UTC") from error


Timestamp = Annotated[
    AwareDatetime,
    AfterValidator(_in_utc),
    PlainSerializer(rfc3339, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Sats = Annotated[int, Field(strict=True, ge=0, le=SATS_MAX, description="Satoshis")]
PositiveSats = Annotated[int, Field(strict=True, ge=1, le=SATS_MAX, description="Satoshis")]
Limit = Annotated[int, Query(ge=1, le=PAGE_SIZE_MAX, description="Items per page")]
Cursor = Annotated[
    str | None, Query(max_length=CURSOR_LENGTH_MAX, description="nextCursor of the page before")
]

Item = TypeVar("Item")
Row = TypeVar("Row")


class Page(WireModel, Generic[Item]):
    """One page of a list; `nextCursor` is null on the last one."""

    items: list[Item]
    next_cursor: str | None


def encode_cursor(*position: Any) -> str:
    """The place after the last row of a page, opaque to clients."""
    return base64.urlsafe_b64encode(orjson.dumps(position, default=str)).rstrip(b"=").decode()


def cut_page(
    found: Sequence[Row], limit: int, place: Callable[[Row], tuple[Any, ...]]
) -> tuple[Sequence[Row], str | None]:
    """The rows of a page, and the cursor of the next page if there is one.

    Args:
        found: the rows, of which `limit + 1` were asked for.
        limit: rows on the page at the most.
        place: a row's position in the list.
    """
    shown = found[:limit]
    return shown, encode_cursor(*place(shown[-1])) if len(found) > limit else None


def decode_cursor(cursor: str, *types: type) -> tuple[Any, ...]:
    """The position that `encode_cursor` made, each part checked against its type.

    Raises:
        Problem: 422 `invalid_cursor` for anything that we did not make.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        position = orjson.loads(base64.urlsafe_b64decode(padded.encode("ascii")))
        if not isinstance(position, list) or len(position) != len(types):
            raise ValueError("shape")
        return tuple(_part(value, kind) for value, kind in zip(position, types, strict=True))
    except (ValueError, TypeError, binascii.Error) as error:
        detail = "The cursor is not one that this list gave; start without a cursor."
        raise Problem(
            422, "invalid_cursor", detail, [FieldError("cursor", "invalid_cursor", detail)]
        ) from error


def _part(value: Any, kind: type) -> Any:
    if kind is int:
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63:
            raise ValueError("not an integer that we made")
        return value
    if not isinstance(storable(value), str):
        raise TypeError("not text")
    if kind is datetime:
        instant = datetime.fromisoformat(value)
        if instant.tzinfo is None:
            raise ValueError("no time zone")
        return instant
    return kind(value)
