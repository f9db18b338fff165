"""Bad requests made from the API's own document: for every operation, all the ways to get it wrong.

Nobody who sends them has money, and they name real objects wherever that can do no harm: so checks
deep inside a call are reached, and still not a satoshi may move.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any
from urllib.parse import quote
from uuid import uuid4

Document = dict[str, Any]
MULTIPART = "multipart/form-data"
JSON = "application/json"
ADMINS_ONLY = frozenset(
    {
        "assignRole",
        "suspendUser",
        "liftSuspension",
        "freezeAccount",
        "releaseAccount",
        "getFeeReport",
        "schedulePolicy",
        "listContentReports",
        "decideContentReport",
        "retryDistribution",
        "refundDistribution",
    }
)
ENDS_ITS_SESSION = "endSession"

_LONG = "x" * 50_000
_VALUES: dict[str, Any] = {
    "null": None,
    "a boolean": True,
    "zero": 0,
    "negative": -1,
    "a fraction": 1.5,
    "more than all satoshis": 21 * 10**14 + 1,
    "too large for a bigint": 2**63,
    "too large for anything": 10**40,
    "text": "x",
    "a number as text": "1",
    "empty text": "",
    "spaces": "   ",
    "a NUL": "a\0b",
    "a lone surrogate": "\ud800",
    "over-long": _LONG,
    "a list": [],
    "a list of lists": [[[1]]],
    "a list of NULs": ["\0"],
    "an object": {"a": {"b": 1}},
    "not a number": float("nan"),
    "infinite": float("inf"),
}
_BODIES: dict[str, bytes] = {
    "nothing": b"",
    "null": b"null",
    "a boolean": b"true",
    "a number": b"1",
    "text": b'"x"',
    "a list": b"[]",
    "an object without anything": b"{}",
    "cut short": b'{"amount": 1',
    "two values": b"{}{}",
    "not UTF-8": b'{"memo": "\xff\xfe"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "too deep": b"[" * 20_000,
    "a number of many digits": b"9" * 10_000,
    "a NUL": b"\0",
    "too large": b'{"memo": "' + b"x" * 100_000 + b'"}',
}
_CONTENT_TYPES = {
    "no content type": None,
    "text": "text/plain",
    "XML": "application/xml",
    "a form": "application/x-www-form-urlencoded",
    "multipart without a boundary": MULTIPART,
    "garbage": ";;;=",
}
_PATH_IDS = {
    "unknown": str(uuid4()),
    "not an id": "nonsense",
    "zero": "0",
    "negative": "-1",
    "too large": "9" * 40,
    "a NUL": "%00",
    "not UTF-8": "%ff%fe",
    "a way up": "..%2f..%2fauth%2fme",
    "over-long": "x" * 3_000,
    "a space": "%20",
    "emoji": "%F0%9F%98%82",
    "an id as a URN": f"urn:uuid:{uuid4()}",
    "a null": "null",
    "SQL": "1%27%20or%201%3D1--",
    "other digits": quote("١٢"),
}
_TIMES = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00Z")
_CURSOR_PARTS: tuple[Any, ...] = (
    *(None, True, -1, 2**63, 10**40, 1.5, "", "x", "\0", "\ud800", [], {}, str(uuid4())),
    *_TIMES,
)
_QUERY_VALUES = (
    *("", "x", "0", "-1", "101", "9" * 40, "\0", "x" * 2_000, "1e400", "2026-01-01", *_TIMES),
)
_AUTHORIZATIONS: dict[str, tuple[bytes, ...]] = {
    "an invented token": (b"Bearer nonsense",),
    "no algorithm": (b"Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.",),
    "another scheme": (b"Basic dXNlcjpwYXNz",),
    "nothing": (b"",),
    "no token": (b"Bearer",),
    "not ASCII": (b"Bearer \xff\xe9",),
    "over-long": (b"Bearer " + b"x" * 20_000,),
    "twice": (b"Bearer a", b"Bearer b"),
}
_KEYS = {"empty": b"", "too long": b"k" * 256, "not ASCII": b"\xe9", "a tab": b"a\tb"}


@dataclass(frozen=True)
class Attempt:
    """A bad request. `caller` is whose token it carries; `path` is sent as it stands."""

    operation: str
    about: str
    caller: str
    method: str
    path: str
    headers: tuple[tuple[str, bytes], ...] = ()
    content: bytes | None = None

    def __str__(self) -> str:
        return f"{self.operation} as {self.caller}: {self.about}"


@dataclass(frozen=True)
class Operation:
    """An operation of the document, with values for all that it needs."""

    id: str
    method: str
    path: str
    has_body: str | None
    body: Any
    path_ids: Mapping[str, str]
    query: tuple[str, ...]
    takes_token: bool
    takes_key: bool

    @property
    def caller(self) -> str:
        """The caller who gets furthest without harm."""
        if not self.takes_token:
            return "anonymous"
        return "admin" if self.id in ADMINS_ONLY else "creator"

    def attempt(self, about: str, *, query: str = "", **path_ids: str) -> Attempt:
        """The call as it should be, but for the given parts of its path and its query."""
        path = self.path.format_map({**self.path_ids, **path_ids})
        path += f"?{query}" if query else ""
        plain = Attempt(self.id, about, self.caller, self.method, path)
        return self.with_body(plain, json.dumps(self.body).encode()) if self.has_body else plain

    def with_body(
        self, attempt: Attempt, content: bytes, content_type: str | None = JSON
    ) -> Attempt:
        """The attempt with a body."""
        headers = (("Content-Type", content_type.encode()),) if content_type is not None else ()
        return replace(attempt, content=content, headers=headers)


def operations(document: Document, known: Mapping[str, Any]) -> Iterator[Operation]:
    """All operations. `known` gives values for parameters and properties by their names.

    A name in braces is for a path only.
    """
    for path, item in document["paths"].items():
        for method, described in item.items():
            parameters = described.get("parameters", [])
            media = described.get("requestBody", {}).get("content", {})
            kind = next(iter(media), None)
            body = _example(document, media[kind]["schema"], known) if kind == JSON else None
            names = [each["name"] for each in parameters if each["in"] == "path"]
            kept = names if method != "delete" else ["roundId", "userId"]  # do no harm
            ids = {name: known.get(f"{{{name}}}", known.get(name)) for name in kept}
            yield Operation(
                id=described["operationId"],
                method=method.upper(),
                path=path,
                has_body=kind,
                body=body,
                path_ids={name: ids.get(name) or str(uuid4()) for name in names},
                query=tuple(each["name"] for each in parameters if each["in"] == "query"),
                takes_token=bool(described.get("security")),
                takes_key=any(each["name"] == "Idempotency-Key" for each in parameters),
            )


def attempts(operation: Operation) -> Iterator[Attempt]:
    """Everything bad that can be done with an operation."""
    yield from _with_bad_tokens(operation)
    if operation.id == ENDS_ITS_SESSION:
        return
    for caller in ("anonymous", "viewer", "creator"):
        yield replace(operation.attempt("plainly"), caller=caller)
    for name, (about, value) in product(operation.path_ids, _PATH_IDS.items()):
        yield operation.attempt(f"{name} is {about}", **{name: value})
    yield from _with_bad_queries(operation)
    if operation.takes_key:
        for about, key in _KEYS.items():
            attempt = operation.attempt(f"Idempotency-Key is {about}")
            yield replace(attempt, headers=(*attempt.headers, ("Idempotency-Key", key)))
        keys = tuple(("Idempotency-Key", key) for key in (b"one", b"other"))
        attempt = operation.attempt("two Idempotency-Keys")
        yield replace(attempt, headers=(*attempt.headers, *keys))
    if operation.has_body == JSON:
        yield from _with_bad_bodies(operation)
    elif operation.has_body == MULTIPART:
        yield from _with_bad_forms(operation)


def _with_bad_tokens(operation: Operation) -> Iterator[Attempt]:
    plain = replace(operation.attempt(""), caller="anonymous")
    for about, values in _AUTHORIZATIONS.items():
        tokens = tuple(("Authorization", value) for value in values)
        yield replace(plain, about=f"Authorization is {about}", headers=(*plain.headers, *tokens))


def _with_bad_queries(operation: Operation) -> Iterator[Attempt]:
    for name, value in product(operation.query, _QUERY_VALUES):
        query = f"{name}={quote(value)}"
        yield operation.attempt(f"{name} is {value[:40]!r}", query=query)
    for name in operation.query:
        yield operation.attempt(f"{name} is not UTF-8", query=f"{name}=%ff")
        yield operation.attempt(f"{name} is given twice", query=f"{name}=1&{name}=x")
    if "cursor" in operation.query:
        for about, cursor in _forged_cursors():
            yield operation.attempt(f"cursor is {about}", query=f"cursor={cursor}")


def _forged_cursors() -> Iterator[tuple[str, str]]:
    whole: list[Any] = [None, {}, "x", 1, [], *([part] for part in _CURSOR_PARTS)]
    pairs = [[first, last] for first in (_TIMES[0], 1) for last in _CURSOR_PARTS]
    for value in (*whole, *pairs):
        encoded = base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
        yield f"a forged {value!r}", encoded
    for value in ("====", "a", "%F0%9F%98%82", "AAAA", "_-_-"):
        yield value, value


def _with_bad_bodies(operation: Operation) -> Iterator[Attempt]:
    plain = operation.attempt("")
    for about, content in _BODIES.items():
        yield replace(operation.with_body(plain, content), about=f"body is {about}")
    good = json.dumps(operation.body).encode()
    for about, content_type in _CONTENT_TYPES.items():
        yield replace(operation.with_body(plain, good, content_type), about=f"sent as {about}")
    for about, value in _VALUES.items():
        for where, changed in _changed(operation.body, value):
            bad = operation.with_body(plain, json.dumps(changed).encode())
            yield replace(bad, about=f"{where} is {about}")
    for name in operation.body:
        body = {key: value for key, value in operation.body.items() if key != name}
        attempt = operation.with_body(plain, json.dumps(body).encode())
        yield replace(attempt, about=f"{name} is missing")
    for name in operation.body:
        twice = b'{"%b": null, %b' % (name.encode(), good[1:])
        yield replace(operation.with_body(plain, twice), about=f"{name} is given twice")
    unknown = json.dumps({**operation.body, "surplus": 1}).encode()
    yield replace(operation.with_body(plain, unknown), about="an unknown field")


def _changed(
    value: Any, new: Any, put: Callable[[Any], Any] = lambda whole: whole, where: str = ""
) -> Iterator[tuple[str, Any]]:
    """For each place inside a JSON value: its pointer, and the whole with `new` in that place."""
    if where:
        yield where, put(new)
    if isinstance(value, dict):
        for key, inner in value.items():

            def put_key(it: Any, key: str = key) -> Any:
                return put({**value, key: it})

            yield from _changed(inner, new, put_key, f"{where}/{key}")
    elif isinstance(value, list) and value:
        yield from _changed(value[0], new, lambda it: put([it, *value[1:]]), f"{where}/0")


def _with_bad_forms(operation: Operation) -> Iterator[Attempt]:
    plain = operation.attempt("")
    image = b'name="file"; filename="x.png"'
    forms: dict[str, list[tuple[bytes, bytes]]] = {
        "no part": [],
        "no file": [(b'name="title"', b"x")],
        "a file that is text": [(b'name="file"', b"x")],
        "an empty file": [(image, b"")],
        "a file that is no image": [(image, b"<svg onload='alert(1)'/>")],
        "two files": [(image, b"GIF89a"), (image, b"GIF89a")],
        "a NUL in the title": [(image, b"GIF89a"), (b'name="title"', b"a\0b")],
        "a NUL in the file's name": [(b'name="file"; filename="a%00\0.png"', b"GIF89a")],
        "a title that is not UTF-8": [(image, b"GIF89a"), (b'name="title"', b"\xff\xfe")],
        "a title that is too long": [(image, b"GIF89a"), (b'name="title"', b"x" * 201)],
        "a description too long": [(image, b"GIF89a"), (b'name="description"', b"x" * 5_000)],
        "a title that is a file": [(image, b"GIF89a"), (b'name="title"; filename="t"', b"x")],
        "many tags": [(image, b"GIF89a"), *[(b'name="tags"', b"t")] * 300],
        "a long tag": [(image, b"GIF89a"), (b'name="tags"', b"t" * 10_000)],
        "a transform that is no JSON": [(image, b"GIF89a"), (b'name="transform"', b"{")],
        "a transform of another type": [(image, b"GIF89a"), (b'name="transform"', b"[1]")],
        "a part without a name": [(b'filename="x.png"', b"GIF89a")],
        "a very long name": [(b'name="' + b"n" * 20_000 + b'"', b"x")],
        "a large field": [(b'name="title"', b"x" * 3_000_000)],
        "thousands of parts": [(b'name="tags"', b"")] * 3_000,
    }
    for about, parts in forms.items():
        body = b"".join(
            b"--edge\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % part for part in parts
        )
        attempt = operation.with_body(plain, body + b"--edge--\r\n", f"{MULTIPART}; boundary=edge")
        yield replace(attempt, about=f"form has {about}")
    contents = {
        **_BODIES,
        "a form that is cut": b'--edge\r\nContent-Disposition: form-data; name="',
    }
    for about, content in contents.items():
        attempt = operation.with_body(plain, content, f"{MULTIPART}; boundary=edge")
        yield replace(attempt, about=f"form is {about}")
    for about, content_type in _CONTENT_TYPES.items():
        attempt = operation.with_body(plain, b"--edge--\r\n", content_type)
        yield replace(attempt, about=f"sent as {about}")


def _example(document: Document, schema: Document, known: Mapping[str, Any]) -> Any:
    """A value that fits a schema."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _example(document, document["components"]["schemas"][name], known)
    if "anyOf" in schema:
        return _example(document, schema["anyOf"][0], known)
    kind = schema.get("type", "string")
    if kind == "object":
        properties = schema.get("properties", {}).items()
        return {
            name: known[name] if name in known else _example(document, inner, known)
            for name, inner in properties
        }
    if kind == "array":
        return [_example(document, schema["items"], known)]
    plain = {"integer": int(schema.get("minimum", 1)), "number": 0.5, "boolean": False}
    text = str(uuid4()) if schema.get("format") == "uuid" else "a" * schema.get("minLength", 1)
    return schema["enum"][0] if "enum" in schema else plain.get(kind, text)
