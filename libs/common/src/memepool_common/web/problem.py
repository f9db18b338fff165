"""Errors on the wire: RFC 9457 problem details with stable codes."""

import http
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson
import structlog
from opentelemetry import trace
from starlette.responses import Response

PROBLEM_JSON = "application/problem+json"
log = structlog.get_logger("memepool.http")


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one part of the request; `pointer` is a JSON pointer or a parameter."""

    pointer: str
    code: str
    detail: str


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818 - the RFC's word for it
    """An answer other than success. `code` is stable; clients branch on it."""

    status: int
    code: str
    detail: str
    errors: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(f"{self.status} {self.code}: {self.detail}")


def not_built_yet(operation: str) -> Problem:
    """What a call answers whose contract stands and whose body does not."""
    return Problem(501, "not_built_yet", f"{operation} is not built yet.")


def trace_id() -> str | None:
    """The current trace's id, 32 hexadecimal digits, or None outside a trace."""
    span = trace.get_current_span().get_span_context()
    return format(span.trace_id, "032x") if span.is_valid else None


def problem_response(problem: Problem, instance: str) -> Response:
    """The problem as an HTTP answer; `instance` is the path of the request."""
    title = http.HTTPStatus(problem.status).phrase
    body = {
        "type": f"/problems/{problem.code}",
        "title": title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": instance,
        "code": problem.code,
        "traceId": trace_id(),
        "errors": [asdict(error) for error in problem.errors],
        **problem.extra,
    }
    return Response(
        orjson.dumps(body, default=str),
        status_code=problem.status,
        headers=dict(problem.headers),
        media_type=PROBLEM_JSON,
    )


def unexpected(error: Exception, instance: str) -> Response:
    """What is answered to an exception that nobody foresaw, after an entry in the log."""
    log.error("unexpected_error", path=instance, exc_info=error)
    detail = "Something went wrong on our side; nothing was changed."
    return problem_response(Problem(500, "internal_error", detail), instance)


def problem_schemas() -> dict[str, Any]:
    """JSON Schemas of a problem, for OpenAPI's components."""
    text = {"type": "string"}
    error = {"pointer": text, "code": text, "detail": text}
    problem = {
        "type": {"type": "string", "format": "uri-reference"},
        "title": text,
        "status": {"type": "integer"},
        "detail": text,
        "instance": text,
        "code": {"type": "string", "description": "Stable; docs/problems.md lists all"},
        "traceId": {"type": ["string", "null"]},
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/FieldError"}},
    }
    return {
        "FieldError": {"type": "object", "properties": error, "required": list(error)},
        "Problem": {"type": "object", "properties": problem, "required": list(problem)},
    }
