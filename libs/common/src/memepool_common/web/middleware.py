"""Pure ASGI middleware: request context (id, trace, log, metrics) and the body limit."""

import asyncio
import contextlib
import re
import time
from collections.abc import Mapping

import structlog
from opentelemetry import trace
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memepool_common import telemetry
from memepool_common.ids import uuid7
from memepool_common.web.problem import Problem, problem_response

DISCARD_BYTES_MAX = 8 * 1024 * 1024
DISCARD_TIMEOUT_S = 2.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
log = structlog.get_logger("memepool.http")
tracer = trace.get_tracer("memepool.http")


class RequestContext:
    """Gives each request an id and a span; logs and counts its answer."""

    def __init__(self, app: ASGIApp, service: str) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else str(uuid7())
        scope.setdefault("state", {})["request_id"] = request_id
        started_s = time.perf_counter()
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        context = telemetry.remote_context(headers.get("traceparent"))
        structlog.contextvars.bind_contextvars(request_id=request_id, service=self.service)
        with tracer.start_as_current_span(
            f"{scope['method']} {self.service}", context=context, kind=trace.SpanKind.SERVER
        ) as span:
            try:
                await self.app(scope, receive, send_with_id)
            finally:
                self._finish(scope, span, status, time.perf_counter() - started_s)
                structlog.contextvars.unbind_contextvars("request_id", "service")

    def _finish(self, scope: Scope, span: trace.Span, status: int, seconds: float) -> None:
        # Only route templates become labels: paths are unbounded.
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if route != "unmatched" else "any"
        span.update_name(f"{method} {route}")
        span.set_attribute("http.response.status_code", status)
        telemetry.HTTP_REQUESTS.labels(self.service, method, route, str(status)).inc()
        telemetry.HTTP_SECONDS.labels(self.service, method, route).observe(seconds)
        log.info(
            "request", method=method, path=scope["path"], status=status, ms=round(seconds * 1e3, 2)
        )


class _BodyTooLargeError(Exception):
    pass


class BodyLimit:
    """Answers 413 as soon as a body is known to be too large, by header or by count."""

    def __init__(self, app: ASGIApp, bytes_max: int, by_path: Mapping[str, int]) -> None:
        self.app = app
        self.bytes_max = bytes_max
        self.by_path = by_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        bytes_max = self.by_path.get(scope["path"], self.bytes_max)
        declared = Headers(scope=scope).get("content-length", "0")
        exceeded = declared.isdigit() and int(declared) > bytes_max
        answered = False
        received_bytes = 0

        async def counted_receive() -> Message:
            nonlocal received_bytes, exceeded
            message = await receive()
            received_bytes += len(message.get("body", b""))
            if received_bytes > bytes_max:
                exceeded = True
                raise _BodyTooLargeError
            return message

        async def guarded_send(message: Message) -> None:
            nonlocal answered
            if not exceeded:  # whatever the application makes of a cut body is not the answer
                answered = answered or message["type"] == "http.response.start"
                await send(message)

        try:
            if not exceeded:
                await self.app(scope, counted_receive, guarded_send)
        except _BodyTooLargeError:
            pass
        if exceeded and not answered:
            detail = f"The body is larger than the {bytes_max} bytes that this call accepts."
            answer = problem_response(Problem(413, "body_too_large", detail), scope["path"])
            answer.headers["Connection"] = "close"
            await _discard(receive)
            await answer(scope, receive, send)


async def _discard(receive: Receive) -> None:
    """Read on for a moment: a connection closed on a client that is sending loses the answer."""
    discarded_bytes = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_TIMEOUT_S):
            while discarded_bytes < DISCARD_BYTES_MAX:
                message = await receive()
                discarded_bytes += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
