"""The stable codes of problems, read from the code, as a page of the documentation."""

import ast
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI

ROOT = Path(__file__).resolve().parent.parent
COMMON = "all"

# What no call spells out: the status or the code is computed there.
COMPUTED = {
    ("token_expired", 401, COMMON): "The access token has expired; refresh the session.",
    ("session_ended", 401, COMMON): "The session has ended; sign in again.",
    (
        "invalid_request",
        422,
        COMMON,
    ): "The request breaks a rule; `errors` names where.",
    ("malformed_request", 400, COMMON): "The request could not be parsed.",
    ("insufficient_funds", 422, "payments"): "The balance does not cover it.",
    ("account_frozen", 422, "payments"): "The account is frozen.",
    ("malformed_address", 422, "auth"): "Not a P2PKH address: alphabet, length or checksum.",
    ("wrong_network", 422, "auth"): "An address of another network than this system's.",
}
HEAD = """\
# Problem codes

An error is `application/problem+json` (RFC 9457): `{type: "/problems/<code>", title, status,
detail, instance, code, traceId, errors[{pointer, code, detail}]}`. Branch on `code`: codes are
stable, the words of `detail` are for people and change. After 429 and 503 wait for `Retry-After`.

| code | status | from | what it says |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Code:
    """A code as one service answers it."""

    code: str
    status: int
    service: str
    meaning: str


def problem_page(apps: dict[str, FastAPI]) -> str:
    """The page, given the public application of each service."""
    found = [Code(*key, meaning) for key, meaning in COMPUTED.items()]
    for service, app in apps.items():
        found += domain_codes(service, app)
        found += spelled_codes(service, ROOT / "services" / service / "src")
    found += spelled_codes(COMMON, ROOT / "libs/common/src")
    rows: dict[tuple[str, int], list[Code]] = {}
    for one in sorted(found, key=lambda one: (one.code, one.status, one.service != COMMON)):
        rows.setdefault((one.code, one.status), []).append(one)
    return HEAD + "".join(_row(same) for same in rows.values())


def domain_codes(service: str, app: FastAPI) -> Iterator[Code]:
    """The errors of a service's domain that its application turns into answers."""
    for error, handler in app.exception_handlers.items():
        status = inspect.getclosurevars(handler).nonlocals.get("status")
        if isinstance(error, type) and isinstance(status, int):
            for kind in _leaves(error):
                said = kind.__doc__ or kind.code.replace("_", " ").capitalize() + "."
                yield Code(kind.code, status, service, said.partition("\n\n")[0])


def spelled_codes(service: str, folder: Path) -> Iterator[Code]:
    """What is written as `Problem(status, "code", detail)`."""
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _in_function(service, function)


def _in_function(service: str, function: ast.AST) -> Iterator[Code]:
    said: dict[str, ast.expr] = {}
    nodes = [node for node in ast.walk(function) if hasattr(node, "lineno")]
    for node in sorted(nodes, key=lambda node: node.lineno):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                said[name] = value
            case ast.Call(
                func=ast.Name(id="Problem"),
                args=[ast.Constant(value=int(status)), ast.Constant(value=str(code)), detail, *_],
            ):
                if isinstance(detail, ast.Name):
                    detail = said.get(detail.id, detail)
                yield Code(code, status, service, _text(detail))


def _leaves(error: Any) -> list[Any]:
    """The error and all kinds of it that have a code of their own."""
    below = [leaf for kind in error.__subclasses__() for leaf in _leaves(kind)]
    return ([error] if "code" in vars(error) else []) + below


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return "…"
    return str(node.value) if isinstance(node, ast.Constant) else ""


def _row(same: Sequence[Code]) -> str:
    first = same[0]
    services = list(dict.fromkeys(one.service for one in same))
    meaning = next((one.meaning for one in same if one.meaning), "")
    words = " ".join(meaning.split()).replace("|", "\\|")
    return f"| `{first.code}` | {first.status} | {', '.join(services)} | {words} |\n"
