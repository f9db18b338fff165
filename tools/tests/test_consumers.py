"""Every consumer understands what every producer sends: examples made from the producers' schemas,
read by the models that the consumers' handlers use."""

import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from functools import partial
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.exc import DBAPIError

from memepool_chain.network import REGTEST
from memepool_common.db import Database
from memepool_common.events import Event, Subscription
from memepool_common.web.model import WireModel
from memepool_gateway.stream.tallies import TallyFold
from memepool_gateway.stream.translate import MODELS, VOTE_COUNTED, CountedVotes, drafts_of
from memepool_rounds.domain.policy import STANDARD_1
from tools.contracts import SERVICES, event_schema, events_of

PRODUCED = {name: model for service in SERVICES for name, model in events_of(service).items()}
USER = "019a0000-0000-7000-8000-000000000001"
TIME = "2026-01-02T03:04:05.678901Z"

# Text that has a form which the schema does not tell.
TEXTS = {
    "roundId": "900000",
    "txid": "ab" * 32,
    "sha256": "cd" * 32,
    "header": "00" * 80,
    "closingBlockHash": "0e" * 32,
    "walletAddress": "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn",
}


def example(schema: dict[str, Any], *, empty: bool, definitions: Any = None, name: str = "") -> Any:
    """JSON that the schema allows; with `empty`, null wherever it may be and no items in lists."""
    definitions = definitions or schema.get("$defs", {})
    inner = partial(example, empty=empty, definitions=definitions)
    if "$ref" in schema:
        return inner(definitions[schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        kinds = sorted(schema["anyOf"], key=lambda kind: (kind.get("type") == "null") != empty)
        return inner(kinds[0], name=name)
    if schema["type"] == "object" and name != "policy":
        fields = schema.get("properties", {})
        return {key: inner(field, name=key) for key, field in fields.items()}
    if schema["type"] == "array":
        return [inner(schema["items"], name=name) for _ in range(0 if empty else 1)]
    return plain_example(schema, name)


def plain_example(schema: dict[str, Any], name: str) -> Any:
    """A value without parts."""
    if "enum" in schema:
        return schema["enum"][0]
    values = {"uuid": USER, "date-time": TIME, "integer": max(schema.get("minimum", 0), 7)}
    values |= {"boolean": True, "null": None, "object": STANDARD_1.document()}
    return values.get(schema.get("format", schema["type"]), TEXTS.get(name, "text"))


def subscriptions() -> Iterator[tuple[str, Subscription]]:
    auth, content, rounds = (
        import_module(f"memepool_{service}.consumers") for service in ("auth", "content", "rounds")
    )
    payments = import_module("memepool_payments.consumers")
    for service, found in {
        "auth": [auth.STATS],
        "content": content.SUBSCRIPTIONS,
        "payments": payments.subscriptions(REGTEST, 200),
        "rounds": rounds.SUBSCRIPTIONS,
    }.items():
        yield from ((service, subscription) for subscription in found)


def models_of(handler: Callable[..., Any]) -> set[type[WireModel]]:
    """The models that a handler names, itself or through the functions of its module."""
    while isinstance(handler, partial):
        handler = handler.func
    assert isinstance(handler, FunctionType)
    found: set[type[WireModel]] = set()
    for name in _names(handler.__code__):
        value = handler.__globals__.get(name)
        if isinstance(value, type) and issubclass(value, WireModel):
            found.add(value)
        elif isinstance(value, FunctionType) and value.__module__ == handler.__module__:
            found |= models_of(value)
    return found


def _names(code: CodeType) -> set[str]:
    inner = [part for part in code.co_consts if isinstance(part, CodeType)]
    return set(code.co_names).union(*map(_names, inner))


# Batches on the way of a vote, which PostgreSQL reads whole: no model of ours does.
READ_IN_SQL = {
    "memepool.rounds.vote.placed.v1": "payments",
    "memepool.payments.stake.held.v1": "rounds",
}
READERS = [
    pytest.param(event_type, handler, id=f"{service} reads {event_type}")
    for service, subscription in subscriptions()
    for event_type, handler in subscription.handlers.items()
    if event_type not in READ_IN_SQL
]


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize(("event_type", "handler"), READERS)
def test_a_service_understands_what_it_subscribes_to(
    event_type: str, handler: Callable[..., Any], empty: bool
) -> None:
    data = example(event_schema(event_type, PRODUCED[event_type]), empty=empty)
    PRODUCED[event_type].model_validate_json(json.dumps(data))  # the example is one
    models = models_of(handler)
    assert models, "the handler reads no model"
    for model in models:
        later = {**data, "addedLater": {"x": [1]}}
        assert model.model_validate(later) == model.model_validate(data)
        assert model.model_validate(data).model_dump(by_alias=True).keys() <= data.keys()


@pytest.mark.parametrize(("event_type", "service"), READ_IN_SQL.items())
async def test_a_database_understands_what_its_service_leaves_to_it(
    event_type: str, service: str, database_for: Callable[[str], Awaitable[Database]]
) -> None:
    (handler,) = [
        subscription.handlers[event_type]
        for name, subscription in subscriptions()
        if name == service and event_type in subscription.handlers
    ]
    data = example(event_schema(event_type, PRODUCED[event_type]), empty=False)
    database = await database_for(service)
    async with database.transaction() as session:
        await handler(session, [_event(event_type, {**data, "addedLater": {"x": [1]}})])
    without = {name: value for name, value in data.items() if name != "voteId"}
    with pytest.raises(DBAPIError):
        async with database.transaction() as session:
            await handler(session, [_event(event_type, without)])


def _event(event_type: str, data: dict[str, Any], audience: str = "internal") -> Event:
    return Event(
        id=UUID(USER),
        type=event_type,
        source="/",
        subject="1",
        time=datetime.fromisoformat(TIME),
        version=1,
        audience=audience,
        data=data,
        traceparent=None,
    )


@pytest.mark.parametrize("event_type", MODELS)
def test_the_stream_understands_what_it_tells(event_type: str) -> None:
    data = example(event_schema(event_type, PRODUCED[event_type]), empty=False)
    rows = "voterId" in data
    later = {**data, "addedLater": {"x": [1]}}
    told = drafts_of(_event(event_type, later, "rows:voterId" if rows else "public"))
    assert len(told) == 1
    assert all(draft.audience == (frozenset({UUID(USER)}) if rows else None) for draft in told)
    if event_type == VOTE_COUNTED:
        fold = TallyFold()
        fold.add(CountedVotes.model_validate(data))
        assert fold.pending


def test_every_subscription_is_read_here() -> None:
    read = {subscription.queue for _, subscription in subscriptions()}
    declared = {
        queue
        for service in SERVICES
        for queue in import_module(f"memepool_{service}.worker").topology()
    }
    assert read == declared
