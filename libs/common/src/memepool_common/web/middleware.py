"""Pure ASGI middleware: request context (id, trace, log, metrics) and the body limit."""

import asyncio
import contextlib
import functools
import logging
import re
import time
from collections.abc import Mapping

import structlog
from opentelemetry import context, trace
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memepool_common import telemetry
from memepool_common.ids import uuid7_text
from memepool_common.web.problem import Problem, problem_response

DISCARD_BYTES_MAX = 8 * 1024 * 1024
DISCARD_TIMEOUT_S = 2.0
STATUS_CLIENT_GONE = 499
"""In logs and metrics, where nobody was left to be answered: no fault of ours."""
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
        watched = WatchedRequest(self.service, dict(scope["headers"]))
        scope.setdefault("state", {})["request_id"] = watched.id
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", watched.id.encode())]
            await send(message)

        in_logs = telemetry.IN_LOGS.set(watched.in_logs)
        token = context.attach(telemetry.context_of(watched.span))
        try:
            await self.app(scope, receive, send_with_id)
            status = status or STATUS_CLIENT_GONE
        finally:
            # Only route templates become labels: paths are unbounded.
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if route != "unmatched" else "any"
            watched.finish(method, route, scope["path"], status or 500)
            context.detach(token)
            telemetry.IN_LOGS.reset(in_logs)


class WatchedRequest:
    """What is kept of a request while it is served: its id, its span, when it came."""

    def __init__(self, service: str, headers: Mapping[bytes, bytes]) -> None:
        self._started_s = time.perf_counter()
        self._service = service
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        self.id = given if _REQUEST_ID.fullmatch(given) else uuid7_text()
        self.in_logs = {"request_id": self.id, "service": service}
        parent = telemetry.remote_context(headers.get(b"traceparent", b"").decode("latin-1"))
        self.span = tracer.start_span(service, parent, trace.SpanKind.SERVER)

    def finish(
        self, method: str, route: str, path: str, status: int, *, log_level: int = logging.INFO
    ) -> None:
        """It has been answered. To be called in its context, for the log."""
        seconds = time.perf_counter() - self._started_s
        if self.span.is_recording():
            self.span.update_name(f"{method} {route}")
            self.span.set_attribute("http.response.status_code", status)
        count, duration = _metrics(self._service, method, route, status)
        count.inc()
        duration.observe(seconds)
        ms = round(seconds * 1e3, 2)
        log.log(log_level, "request", method=method, path=path, status=status, ms=ms)
        self.span.end()


@functools.cache  # as few as there are routes and statuses
def _metrics(service: str, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return (
        telemetry.HTTP_REQUESTS.labels(service, method, route, str(status)),
        telemetry.HTTP_SECONDS.labels(service, method, route),
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
        declared = dict(scope["headers"]).get(b"content-length", b"0")
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
