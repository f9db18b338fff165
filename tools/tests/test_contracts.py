import json
import re
from typing import Any

import pytest

from tools.contracts import (
    MARK,
    MERGED,
    ROOT,
    SERVICES,
    SHOWN,
    asyncapi,
    event_schema,
    events_of,
    generate,
    generated_files,
    not_built_in,
    topology,
)
from tools.openapi_merge import operations

EVENTS = [pair for service in SERVICES for pair in events_of(service).items()]


def references(document: Any) -> list[str]:
    if isinstance(document, dict):
        own = [document["$ref"]] if isinstance(document.get("$ref"), str) else []
        return own + [ref for value in document.values() for ref in references(value)]
    if isinstance(document, list):
        return [ref for value in document for ref in references(value)]
    return []


def test_the_files_are_what_the_code_says() -> None:
    """When this fails: `make contracts`, and look at what changed."""
    found, wanted = generated_files(), generate()
    assert sorted(found) == sorted(wanted)
    assert [path for path in wanted if found[path] != wanted[path]] == []


def test_every_queue_is_bound_to_events_that_somebody_publishes() -> None:
    published = {name.removeprefix("memepool.") for name, _ in EVENTS}
    for queue, routing_keys in topology().items():
        assert routing_keys, queue
        assert set(routing_keys) <= published, queue


@pytest.mark.parametrize(("event_type", "model"), EVENTS, ids=[name for name, _ in EVENTS])
def test_an_event_always_carries_all_its_fields_in_camel_case(event_type: str, model: Any) -> None:
    schema = event_schema(event_type, model)
    assert schema["$id"].startswith("memepool.")
    assert set(schema["required"]) == set(schema["properties"])
    assert not any("_" in name for name in schema["properties"])


def test_every_reference_of_the_event_document_leads_somewhere() -> None:
    document = asyncapi()
    for reference in references(document):
        file, _, pointer = reference.partition("#/")
        if file:
            assert json.loads((ROOT / "contracts" / file).read_text())["$id"] in reference
            continue
        target = document
        for part in pointer.split("/"):
            target = target[part]


def test_no_two_services_publish_the_same_event() -> None:
    assert len({name for name, _ in EVENTS}) == len(EVENTS)
    for service in SERVICES:
        assert all(name.startswith(f"memepool.{service}.") for name in events_of(service))


def test_every_call_that_clients_are_promised_is_there() -> None:
    document = json.loads((ROOT / MERGED).read_text())
    offered = {
        f"{method.upper()} {re.sub('{.*?}', '{}', path)}"
        for method, path, _ in operations(document["paths"])
    }
    assert offered == {line.strip() for line in PROMISED.strip().splitlines()}


def test_a_call_is_marked_as_not_built_exactly_when_its_code_says_so() -> None:
    document = json.loads((ROOT / MERGED).read_text())
    calls = [operation for _, _, operation in operations(document["paths"])]
    marked = {operation["operationId"] for operation in calls if MARK in operation}
    named = {what for service in SERVICES for what in not_built_in(service)}
    assert marked == named & {operation["operationId"] for operation in calls}


def test_the_document_of_all_services_holds_together() -> None:
    document = json.loads((ROOT / MERGED).read_text())
    for reference in references(document):
        target = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
    assert "oneOf" not in (ROOT / MERGED).read_text()
    assert (ROOT / MERGED).read_text() == (ROOT / SHOWN).read_text()


PROMISED = """
POST /auth/challenge
POST /auth/verify
POST /auth/session
DELETE /auth/session
GET /auth/sessions
DELETE /auth/sessions
DELETE /auth/sessions/{}
GET /auth/me
PATCH /auth/me
GET /auth/users/{}
PUT /auth/users/{}/role
PUT /auth/users/{}/suspension
DELETE /auth/users/{}/suspension
GET /auth/audit
GET /.well-known/jwks.json
POST /content/upload
GET /content
GET /content/{}
GET /content/{}/media/{}
PUT /content/{}
DELETE /content/{}
POST /content/{}/transform
GET /content/{}/jobs/{}
POST /content/{}/reports
GET /content/reports
POST /content/reports/{}/decision
GET /content/audit
GET /rounds
GET /rounds/{}
GET /rounds/{}/submissions
POST /rounds/{}/submissions
DELETE /rounds/{}/submissions/{}
POST /rounds/{}/vote
GET /rounds/{}/votes
GET /rounds/{}/votes/{}
GET /rounds/{}/results
GET /rounds/{}/bundle
GET /rounds/{}/proofs/{}
GET /rounds/policies
POST /rounds/policies
GET /rounds/chain
GET /rounds/audit
GET /payments/balance
POST /payments/transfer
GET /payments/history
GET /payments/transactions/{}
GET /payments/deposit-address
POST /payments/deposits
GET /payments/deposits
GET /payments/deposits/{}
POST /payments/withdrawals
GET /payments/withdrawals
GET /payments/withdrawals/{}
GET /payments/payout
PUT /payments/payout
GET /payments/fees
GET /payments/fees/report
GET /payments/reserves
POST /payments/accounts/{}/freeze
DELETE /payments/accounts/{}/freeze
POST /payments/distributions/{}/retry
POST /payments/distributions/{}/refund
POST /payments/arc/callback
GET /payments/audit
GET /events
"""
