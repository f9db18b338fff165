"""The frame of every HTTP process: application, problems, probes, internal port."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import psycopg
import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic.alias_generators import to_camel
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from memepool_common.events.errors import is_infrastructure
from memepool_common.server import FindShortcut, Lane
from memepool_common.settings import HttpSettings
from memepool_common.web.fast import FastLane, FastPost
from memepool_common.web.middleware import BodyLimit, RequestContext
from memepool_common.web.problem import (
    PROBLEM_JSON,
    FieldError,
    Problem,
    problem_response,
    problem_schemas,
    unexpected,
)

CHECK_TIMEOUT_S = 2.0
VALIDATION_ERRORS_MAX = 20
log = structlog.get_logger("memepool.http")

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own, which would make a second server span beside that of `RequestContext`."""
_HTTP_CODES = {400: "malformed_request", 404: "not_found", 405: "method_not_allowed"}


def build_app(
    *,
    service: str,
    description: str,
    settings: HttpSettings,
    lifespan: Lifespan,
    routers: Sequence[APIRouter],
    errors: Mapping[type[Exception], int],
    body_limits: Mapping[str, int] | None = None,
    fast: FastPost | None = None,
) -> "Application":
    """A service's application.

    Args:
        service: its name, as in paths and metrics.
        description: what it does, for the API's document.
        settings: ports and limits.
        lifespan: opens what the process needs and closes it; sets `app.state`.
        routers: its routes.
        errors: the HTTP status of each domain error; the class names its `code`.
        body_limits: paths whose body may be larger (bytes) than `settings.body_bytes_max`.
        fast: the operation that has a short way.
    """
    app = Application(
        title=f"Memepool {service}",
        description=description,
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
        responses={
            "default": {
                "description": "A problem (RFC 9457)",
                "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }
        },
    )
    for router in routers:
        app.include_router(router)
    for error, status in errors.items():
        app.add_exception_handler(error, _domain_handler(status))
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    for database_error in (DBAPIError, PoolTimeoutError, psycopg.Error):
        app.add_exception_handler(database_error, _on_database_error)
    app.lane = None if fast is None else FastLane(app, service, fast)
    app.add_middleware(
        BodyLimit, bytes_max=settings.body_bytes_max, by_path=dict(body_limits or {})
    )
    app.add_middleware(_LastResort)
    app.add_middleware(RequestContext, service=service)
    return app


class Application(FastAPI):
    """Its document tells what a problem looks like; the server asks its shortcuts first."""

    shortcut: FindShortcut | None = None
    lane: Lane | None = None

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(problem_schemas())
        return document


class Probes:
    """What a process says of itself: alive, started, ready; and not ready once it drains."""

    def __init__(self) -> None:
        self.draining = False
        self.started = False
        self._checks: dict[str, Callable[[], Awaitable[None]]] = {}

    def add(self, name: str, check: Callable[[], Awaitable[None]]) -> None:
        """Add a check of our own means; it raises while they are not there."""
        self._checks[name] = check

    async def failures(self) -> dict[str, str]:
        """The checks that fail now, and why."""
        if self.draining:
            return {"draining": "the process is shutting down"}
        if not self._checks:
            return {"starting": "the process has not opened what it needs"}
        found: dict[str, str] = {}
        checks = dict(self._checks)
        for name, check in checks.items():
            try:
                async with asyncio.timeout(CHECK_TIMEOUT_S):
                    await check()
            except Exception as error:  # noqa: BLE001 - a failing check is an answer
                found[name] = type(error).__name__
        if checks.keys() != self._checks.keys():  # more were added while these were made
            found["starting"] = "the process has not opened all that it needs"
        if not found:
            self.started = True
        return found


def internal_app(probes: Probes, routers: Sequence[APIRouter] = ()) -> FastAPI:
    """The second port: probes and metrics, and what a service tells only its own kind."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, telemetry=_NO_TELEMETRY)

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    async def readiness() -> Response:
        failures = await probes.failures()
        status = 503 if failures else 200
        return JSONResponse({"status": "failing" if failures else "ok", **failures}, status)

    @app.get("/readyz")
    async def readyz() -> Response:
        return await readiness()

    @app.get("/startupz")
    async def startupz() -> Response:
        return JSONResponse({"status": "ok"}) if probes.started else await readiness()

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    for router in routers:
        app.include_router(router)
    return app


class _LastResort:
    """An unexpected exception is a 500 with a problem body, and an entry in the log."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        started = False

        async def watched_send(message: Any) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched_send)
        except Exception as error:
            if scope["type"] != "http":
                raise
            answer = unexpected(error, scope["path"])
            if started:
                raise
            await answer(scope, receive, send)


def _operation_id(route: APIRoute) -> str:
    return to_camel(route.name)


def _domain_handler(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(request: Request, error: Exception) -> Response:
        code = str(getattr(error, "code", "refused"))
        headers = getattr(error, "headers", {})
        extra = getattr(error, "extra", {})
        problem = Problem(status, code, str(error), headers=headers, extra=extra)
        return problem_response(problem, request.url.path)

    return handle


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - registered for this class
    return problem_response(error, request.url.path)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    code = _HTTP_CODES.get(error.status_code, "refused")
    problem = Problem(error.status_code, code, str(error.detail), headers=error.headers or {})
    return problem_response(problem, request.url.path)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    found = error.errors()[:VALIDATION_ERRORS_MAX]
    if any(item["type"] == "json_invalid" for item in found):
        problem = Problem(400, "malformed_json", "The body is not valid JSON.")
        return problem_response(problem, request.url.path)
    if any(isinstance(item["input"], bytes) and item["loc"] == ("body",) for item in found):
        detail = "Send the body as JSON, with Content-Type: application/json."
        return problem_response(Problem(415, "unsupported_media_type", detail), request.url.path)
    errors = [FieldError(_pointer(item["loc"]), item["type"], item["msg"]) for item in found]
    detail = "; ".join(f"{item.pointer}: {item.detail}" for item in errors[:3])
    return problem_response(Problem(422, "invalid_request", detail, errors), request.url.path)


def _pointer(location: Sequence[int | str]) -> str:
    where, *rest = location
    if where == "body":
        return "".join(f"/{part}" for part in rest) or "/"
    return ".".join(str(part) for part in rest) or str(where)


async def _on_database_error(request: Request, error: Exception) -> Response:
    if not is_infrastructure(error):
        raise error
    log.warning("database_unavailable", error=repr(error))
    detail = "The database does not answer; nothing was changed. Try again."
    problem = Problem(503, "temporarily_unavailable", detail, headers={"Retry-After": "1"})
    return problem_response(problem, request.url.path)
