"""Events as values, and their wire form: CloudEvents 1.0 in binary mode (`ce-` headers)."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel

from memepool_common.events.bus import Message
from memepool_common.web.model import rfc3339

PACKED_BYTES_MAX = 8 * 1024 * 1024
UNPACKED_BYTES_MAX = 64 * 1024 * 1024
PACK_FROM_BYTES = 64 * 1024
TYPE_PREFIX = "memepool."
SPEC_VERSION = "1.0"
_REQUIRED = ("ce-id", "ce-source", "ce-type", "ce-subject", "ce-time", "ce-audience")

PUBLIC = "public"
INTERNAL = "internal"


class NotAnEventError(ValueError):
    """The message is not an event that we understand; it never will be."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A fact to be announced.

    Attributes:
        type: `memepool.<service>.<noun>.<verb>.v<n>`.
        subject: the id of the aggregate that it is about.
        data: the model that owns the event's schema.
        audience: who may see it: `public`, `internal`, user ids separated by spaces, or
            `rows:<column>` where each row of a batch belongs to the user in that column.
        version: the aggregate's version, rising with every change of it.
    """

    type: str
    subject: str
    data: BaseModel
    audience: str
    version: int = 1


@dataclass(frozen=True, slots=True)
class Event:
    """A fact as a consumer gets it. `data` is parsed JSON of any shape: validate it."""

    id: UUID
    type: str
    source: str
    subject: str
    time: datetime
    version: int
    audience: str
    data: dict[str, Any]
    traceparent: str | None


def to_message(row: Any, source: str) -> Message:
    """The message for an outbox row; `source` is `/` and the service's name."""
    headers = {
        "ce-specversion": SPEC_VERSION,
        "ce-id": str(row.event_id),
        "ce-source": source,
        "ce-type": row.event_type,
        "ce-subject": row.subject,
        "ce-time": rfc3339(row.occurred_at),
        "ce-audience": row.audience,
        "ce-aggregateversion": str(row.version),
        "content-type": "application/json",
    }
    if row.traceparent:
        headers["traceparent"] = row.traceparent
    body = bytes(row.payload)
    if len(body) >= PACK_FROM_BYTES:
        body = zlib.compress(body, 6)
        headers["content-encoding"] = "deflate"
    routing_key = row.event_type.removeprefix(TYPE_PREFIX)
    return Message(row.event_id, routing_key, headers, body)


def from_message(message: Message) -> Event:
    """Parse a message, trusting nothing in it.

    Raises:
        NotAnEventError: attributes missing or malformed, or the body too large or not an object.
    """
    headers = message.headers
    missing = [name for name in _REQUIRED if name not in headers]
    if missing or headers.get("ce-specversion") != SPEC_VERSION:
        raise NotAnEventError(f"not a CloudEvent 1.0: missing {missing}")
    try:
        data = orjson.loads(_unpack(message.body, headers))
        if not isinstance(data, dict):
            raise NotAnEventError("the body is not a JSON object")
        time = datetime.fromisoformat(headers["ce-time"])
        return Event(
            id=UUID(headers["ce-id"]),
            type=headers["ce-type"],
            source=headers["ce-source"],
            subject=headers["ce-subject"],
            time=time if time.tzinfo else time.replace(tzinfo=UTC),
            version=int(headers.get("ce-aggregateversion", "1")),
            audience=headers["ce-audience"],
            data=data,
            traceparent=headers.get("traceparent"),
        )
    except (ValueError, zlib.error) as error:
        raise NotAnEventError(str(error)) from error


def require_sender(event: Event, user: str | None) -> None:
    """A service publishes as the broker's user `<deployment>-<service>`, from source `/<service>`,
    events of types `memepool.<service>.…`. The broker checks the user and the routing key alone.

    Raises:
        NotAnEventError: the event says that it comes from somebody else, or is another's to say.
    """
    if user is None:
        return
    service = user.rpartition("-")[2]
    if event.source != f"/{service}":
        raise NotAnEventError(f"sent by user {user!r} in the name of {event.source!r}")
    if not event.type.startswith(f"{TYPE_PREFIX}{service}."):
        raise NotAnEventError(f"user {user!r} may not say {event.type!r}")


def pack_data(data: BaseModel) -> bytes:
    """The event's JSON.

    Raises:
        ValueError: it is larger than any consumer would accept.
    """
    body = data.model_dump_json(by_alias=True).encode()
    if len(body) > UNPACKED_BYTES_MAX:
        raise ValueError(f"an event of {len(body)} bytes; the most is {UNPACKED_BYTES_MAX}")
    return body


def _unpack(body: bytes, headers: Mapping[str, str]) -> bytes:
    if len(body) > PACKED_BYTES_MAX:
        raise NotAnEventError(f"the body is larger than {PACKED_BYTES_MAX} bytes")
    encoding = headers.get("content-encoding")
    if encoding is None:
        return body
    if encoding != "deflate":
        raise NotAnEventError(f"unknown content encoding {encoding!r}")
    inflater = zlib.decompressobj()
    unpacked = inflater.decompress(body, UNPACKED_BYTES_MAX)
    if inflater.unconsumed_tail or not inflater.eof:
        raise NotAnEventError("the body unpacks to too much, or is cut off")
    return unpacked
