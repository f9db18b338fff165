"""Writes contracts/ from the code: JSON Schemas of events, AsyncAPI, OpenAPI of each service.

The files are checked in, so that a change of a contract is seen in review, and consumers are tested
against them. A test fails while they differ from what this would write.
"""

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pydantic import BaseModel

from memepool_common.web.app import Probes

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = ROOT / "contracts"
SERVICES = ("auth", "content", "payments", "rounds")
EXCHANGE = "memepool.events"
TYPE_PREFIX = "memepool."
DIALECT = "https://json-schema.org/draft/2020-12/schema"

Document = dict[str, Any]

HEADERS: Document = {
    "type": "object",
    "description": "CloudEvents 1.0 in binary mode",
    "required": ["ce-id", "ce-source", "ce-specversion", "ce-subject", "ce-time", "ce-type"],
    "properties": {
        "ce-specversion": {"const": "1.0"},
        "ce-id": {"type": "string", "format": "uuid", "description": "uuid7; a repeat is the same"},
        "ce-source": {"type": "string", "description": "/ and the service's name"},
        "ce-type": {"type": "string"},
        "ce-subject": {"type": "string", "description": "the id of what it is about"},
        "ce-time": {"type": "string", "format": "date-time"},
        "ce-audience": {
            "type": "string",
            "description": "public, internal, user ids separated by spaces, or rows:<column>",
        },
        "ce-aggregateversion": {"type": "string", "description": "rises with every change"},
        "traceparent": {"type": "string"},
        "content-encoding": {"const": "deflate", "description": "of large bodies"},
    },
}


def generate() -> dict[str, str]:
    """Every file of contracts/ as it should be, by its path in there."""
    documents: dict[str, Document] = {"asyncapi.json": asyncapi()}
    for service in SERVICES:
        documents[f"openapi/{service}.json"] = openapi(service)
        for event_type, model in events_of(service).items():
            documents[f"events/{event_type}.schema.json"] = event_schema(event_type, model)
    return {
        path: json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        for path, document in documents.items()
    }


def events_of(service: str) -> dict[str, type[BaseModel]]:
    """The event types that a service publishes, with the models that own their schemas."""
    events: dict[str, type[BaseModel]] = import_module(f"memepool_{service}.events").EVENTS
    return dict(sorted(events.items()))


def event_schema(event_type: str, model: type[BaseModel]) -> Document:
    """The data of one event as it is sent: every field is there, null when empty."""
    schema = model.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": DIALECT, "$id": event_type, **schema}


def openapi(service: str) -> Document:
    """A service's HTTP interface. Its application is built, and never started."""
    with patch.dict(os.environ, example_settings(service)):
        settings = import_module(f"memepool_{service}.settings").Settings()
    public, _ = import_module(f"memepool_{service}.app").create_apps(settings, Probes())
    document: Document = public.openapi()
    return document


def asyncapi() -> Document:
    """One document for all events: AsyncAPI 3.0, the schemas beside it."""
    messages: Document = {}
    operations: Document = {}
    for service in SERVICES:
        names = list(events_of(service))
        for name, model in events_of(service).items():
            messages[name] = {
                "name": name,
                "summary": (model.__doc__ or "").strip().partition("\n\n")[0].replace("\n", " "),
                "contentType": "application/json",
                "headers": {"$ref": "#/components/schemas/cloudEvent"},
                "payload": {"$ref": f"events/{name}.schema.json"},
                "x-routing-key": name.removeprefix(TYPE_PREFIX),
            }
        operations[f"{service}Publishes"] = {
            "action": "send",
            "channel": {"$ref": "#/channels/events"},
            "messages": [{"$ref": f"#/channels/events/messages/{name}"} for name in names],
        }
    exchange = {"name": EXCHANGE, "type": "topic", "durable": True, "autoDelete": False}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Memepool events",
            "version": "1",
            "description": "Facts that the services announce. Inside a version only optional"
            " fields are added; consumers ignore what they do not know.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "events": {
                "address": EXCHANGE,
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"amqp": {"is": "routingKey", "exchange": exchange}},
            }
        },
        "operations": operations,
        "components": {"schemas": {"cloudEvent": HEADERS}, "messages": messages},
    }


def example_settings(service: str) -> dict[str, str]:
    """What `.env.example` says for one service."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if not line.startswith("#"))
    prefix = f"MEMEPOOL_{service.upper()}_"
    return {name: value for name, _, value in pairs if name.startswith(prefix)}


def main() -> int:
    """Write what is wanted, and remove what no longer is."""
    wanted = generate()
    for path, text in wanted.items():
        file = CONTRACTS / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for file in CONTRACTS.rglob("*.json"):
        if file.relative_to(CONTRACTS).as_posix() not in wanted:
            file.unlink()
    print(f"contracts: {len(wanted)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
