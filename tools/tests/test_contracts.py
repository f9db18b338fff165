import json
from typing import Any

import pytest

from tools.contracts import (
    ROOT,
    SERVICES,
    asyncapi,
    event_schema,
    events_of,
    generate,
    generated_files,
    topology,
)

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
