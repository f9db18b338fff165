"""One OpenAPI document out of those of several services, as clients of the gateway see them."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

Document = dict[str, Any]
SCHEMAS = "#/components/schemas/"


class ClashError(ValueError):
    """Two services claim the same path or operation."""


def merge(documents: Mapping[str, Document], *, title: str, description: str) -> Document:
    """All paths and components together.

    A model that looks the same everywhere is kept once. Models that share only their name get
    their service's name before it, in all services that have one.

    Raises:
        ClashError: a path or an operationId occurs twice.
    """
    shared = _names_with_one_meaning(documents)
    merged: Document = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1", "description": description},
        "paths": {},
        "components": {"schemas": {}},
    }
    for service, document in documents.items():
        named = {
            name: name if name in shared else f"{service.capitalize()}{name}"
            for name in document.get("components", {}).get("schemas", {})
        }
        renamed = _with_references(document, named)
        for path, item in renamed["paths"].items():
            if path in merged["paths"]:
                raise ClashError(f"{service} is not the only one to answer {path}")
            merged["paths"][path] = item
        for kind, components in renamed.get("components", {}).items():
            target = merged["components"].setdefault(kind, {})
            for name, component in components.items():
                target[named.get(name, name) if kind == "schemas" else name] = component
    _refuse_repeated_operations(merged["paths"])
    schemas = merged["components"]["schemas"]
    merged["components"]["schemas"] = dict(sorted(schemas.items()))
    return merged


def operations(paths: Document) -> list[tuple[str, str, Document]]:
    """Method, path and operation of all that a document offers."""
    return [
        (method, path, operation)
        for path, item in paths.items()
        for method, operation in item.items()
        if isinstance(operation, dict) and "responses" in operation
    ]


def _names_with_one_meaning(documents: Mapping[str, Document]) -> set[str]:
    meanings: dict[str, set[str]] = {}
    for document in documents.values():
        schemas = document.get("components", {}).get("schemas", {})
        for name in schemas:
            meanings.setdefault(name, set()).add(_meaning(name, schemas))
    return {name for name, found in meanings.items() if len(found) == 1}


def _meaning(name: str, schemas: Document) -> str:
    """A model as text, with every model that it refers to, however far away."""
    reached: dict[str, Any] = {}
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current in reached or current not in schemas:
            continue
        reached[current] = schemas[current]
        waiting += _references(schemas[current])
    return json.dumps(reached, sort_keys=True)


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        reference = value.get("$ref")
        own = [reference.removeprefix(SCHEMAS)] if isinstance(reference, str) else []
        return own + [name for part in value.values() for name in _references(part)]
    if isinstance(value, list):
        return [name for part in value for name in _references(part)]
    return []


def _with_references(value: Any, named: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        changed = {key: _with_references(part, named) for key, part in value.items()}
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(SCHEMAS):
            name = reference.removeprefix(SCHEMAS)
            changed["$ref"] = SCHEMAS + named.get(name, name)
        return changed
    if isinstance(value, list):
        return [_with_references(part, named) for part in value]
    return value


def _refuse_repeated_operations(paths: Document) -> None:
    counts = Counter(operation["operationId"] for _, _, operation in operations(paths))
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        raise ClashError(f"more than one operation is called {', '.join(repeated)}")
