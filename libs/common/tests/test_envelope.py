"""The wire form of events: what is not one is refused, whatever its bytes."""

import zlib
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memepool_common.events import Message, NotAnEventError
from memepool_common.events.envelope import UNPACKED_BYTES_MAX, from_message, to_message
from memepool_common.ids import uuid7


def row(**changes: object) -> SimpleNamespace:
    values: dict[str, object] = {
        "event_id": uuid7(),
        "event_type": "memepool.sample.thing.happened.v1",
        "subject": "thing-1",
        "version": 7,
        "audience": "public",
        "payload": b'{"name":"a"}',
        "traceparent": None,
        "occurred_at": datetime(2026, 11, 22, 12, 0, tzinfo=UTC),
    }
    return SimpleNamespace(**(values | changes))


def test_an_event_survives_the_journey() -> None:
    made = row(traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    event = from_message(to_message(made, "/sample"))
    assert (event.id, event.type, event.subject) == (made.event_id, made.event_type, "thing-1")
    assert (event.source, event.version, event.audience) == ("/sample", 7, "public")
    assert (event.time, event.data) == (made.occurred_at, {"name": "a"})
    assert event.traceparent == made.traceparent


def test_the_routing_key_is_the_type_without_the_product() -> None:
    assert to_message(row(), "/sample").routing_key == "sample.thing.happened.v1"


@pytest.mark.parametrize(
    "missing", ["ce-id", "ce-source", "ce-type", "ce-subject", "ce-time", "ce-specversion"]
)
def test_a_message_without_an_attribute_is_refused(missing: str) -> None:
    sent = to_message(row(), "/sample")
    headers = {name: value for name, value in sent.headers.items() if name != missing}
    with pytest.raises(NotAnEventError):
        from_message(Message(sent.id, sent.routing_key, headers, sent.body))


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b"\xff\xfe", b'"text"'])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    sent = to_message(row(), "/sample")
    with pytest.raises(NotAnEventError):
        from_message(Message(sent.id, sent.routing_key, sent.headers, body))


def test_a_body_that_unpacks_to_too_much_is_refused() -> None:
    sent = to_message(row(), "/sample")
    bomb = zlib.compress(b" " * (UNPACKED_BYTES_MAX + 1))
    headers = {**sent.headers, "content-encoding": "deflate"}
    with pytest.raises(NotAnEventError, match="too much"):
        from_message(Message(sent.id, sent.routing_key, headers, bomb))


@given(
    st.dictionaries(st.sampled_from(sorted(to_message(row(), "/s").headers)), st.text()),
    st.binary(max_size=200),
)
def test_hostile_messages_raise_nothing_else(headers: dict[str, str], body: bytes) -> None:
    sent = to_message(row(), "/sample")
    try:
        from_message(Message(sent.id, sent.routing_key, {**sent.headers, **headers}, body))
    except NotAnEventError:
        pass
