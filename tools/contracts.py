"""Writes contracts/ from the code: JSON Schemas of events, AsyncAPI, OpenAPI of each service and of
all together, and the queues of the bus with their bindings. Beside it docs/not-built-yet.md,
docs/problems.md, .env.example, and a copy of the document of all services, which the gateway shows.

The files are checked in, so that a change of a contract is seen in review, and consumers are tested
against them. A test fails while they differ from what this would write; `--check` names them.
"""

import argparse
import ast
import json
import os
import sys
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fastapi import FastAPI
from pydantic import BaseModel

from memepool_common.web.app import Probes
from memepool_gateway.app import own_app
from tools import env_example
from tools.openapi_merge import merge, operations
from tools.problems import problem_page

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("auth", "content", "payments", "rounds")
EXCHANGE = "memepool.events"
TYPE_PREFIX = "memepool."
GATEWAY = "gateway"
MERGED = "contracts/openapi/memepool.json"
SHOWN = "services/gateway/src/memepool_gateway/docs/openapi.json"
MARK = "x-not-built-yet"
NOT_BUILT_YET = "docs/not-built-yet.md"
PROBLEMS = "docs/problems.md"
ENV_EXAMPLE = ".env.example"
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
    """Every generated file as it should be, by its path in the repository."""
    apps = {service: application(service) for service in (*SERVICES, GATEWAY)}
    interfaces = {service: app.openapi() for service, app in apps.items()}
    merged = merge(
        interfaces,
        title="Memepool",
        description="A meme competition between two blocks of the BSV chain.",
    )
    documents: dict[str, Document] = {
        "contracts/asyncapi.json": asyncapi(),
        "contracts/topology.json": topology(),
        MERGED: merged,
        SHOWN: merged,
    }
    for service, interface in interfaces.items():
        documents[f"contracts/openapi/{service}.json"] = interface
    for service in SERVICES:
        for event_type, model in events_of(service).items():
            schema = event_schema(event_type, model)
            documents[f"contracts/events/{event_type}.schema.json"] = schema
    files = {
        path: json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        for path, document in documents.items()
    }
    return files | {
        NOT_BUILT_YET: not_built_yet(merged),
        PROBLEMS: problem_page(apps),
        ENV_EXAMPLE: env_example.env_example(),
    }


def generated_files() -> dict[str, str]:
    """Those of them that are there now, and whatever else lies in contracts/."""
    pages = [ROOT / path for path in (SHOWN, NOT_BUILT_YET, PROBLEMS, ENV_EXAMPLE)]
    files = [*(ROOT / "contracts").rglob("*.json"), *pages]
    return {file.relative_to(ROOT).as_posix(): file.read_text() for file in files if file.exists()}


def events_of(service: str) -> dict[str, type[BaseModel]]:
    """The event types that a service publishes, with the models that own their schemas."""
    events: dict[str, type[BaseModel]] = import_module(f"memepool_{service}.events").EVENTS
    return dict(sorted(events.items()))


def event_schema(event_type: str, model: type[BaseModel]) -> Document:
    """The data of one event as it is sent: every field is there, null when empty."""
    schema = model.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": DIALECT, "$id": event_type, **schema}


def application(service: str) -> FastAPI:
    """A service's public application; the gateway's answers what no other does. Never started."""
    settings = _settings(service)
    if service == GATEWAY:
        return own_app(settings, lambda _app: nullcontext())
    public: FastAPI
    public, _ = import_module(f"memepool_{service}.app").create_apps(settings, Probes())
    return public


def _settings(service: str) -> Any:
    with patch.dict(os.environ, env_example.examples(service)):
        return import_module(f"memepool_{service}.settings").Settings()


def topology() -> Document:
    """Every durable queue with the routing keys bound to it."""
    queues: dict[str, list[str]] = {}
    for service in (*SERVICES, GATEWAY):
        queues |= import_module(f"memepool_{service}.worker").topology()
    return dict(sorted(queues.items()))


def not_built_yet(document: Document) -> str:
    """The list of what answers 501: the marked calls, and the parts that the code names."""
    calls = [
        f"- `{method.upper()} {path}` ({operation['operationId']}): {operation['summary']}"
        for method, path, operation in operations(document["paths"])
        if MARK in operation
    ]
    names = {operation["operationId"] for _, _, operation in operations(document["paths"])}
    parts = [
        f"- {service}: {what}"
        for service in SERVICES
        for what in not_built_in(service)
        if what not in names
    ]
    lines = ["# Not built yet", "", "The contract of these stands; they answer"]
    lines[-1] += " `501 not_built_yet` after everything else has been checked."
    for title, found in (("Calls", calls), ("Parts of calls", parts)):
        lines += ["", f"## {title}", "", *(found or ["None."])]
    return "\n".join(lines) + "\n"


def not_built_in(service: str) -> list[str]:
    """What a service's code names in its calls of `not_built_yet`."""
    return [
        _text(call.args[0])
        for path in sorted((ROOT / "services" / service / "src").rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "not_built_yet"
    ]


def _text(node: ast.expr) -> str:
    """A string as the code has it, an ellipsis for what only a running process knows."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text, node.values))
    return str(node.value) if isinstance(node, ast.Constant) else "…"


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


def main() -> int:
    """Write what is wanted, and remove what no longer is; with `--check` only name it."""
    parser = argparse.ArgumentParser(description="Write contracts/ from the code.")
    parser.add_argument("--check", action="store_true", help="only name what is out of date")
    wanted, found = generate(), generated_files()
    stale = sorted(path for path in wanted.keys() | found if wanted.get(path) != found.get(path))
    if parser.parse_args().check:
        for path in stale:
            print(f"contracts: out of date: {path}")
        return 1 if stale else 0
    for path in stale:
        if path not in wanted:
            (ROOT / path).unlink()
            continue
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(wanted[path])
    print(f"contracts: {len(wanted)} files, {len(stale)} of them written anew or removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
