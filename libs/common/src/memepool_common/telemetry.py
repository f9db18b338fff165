"""Logs, traces and metrics: set up once a process, used everywhere through the libraries' APIs."""

import functools
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import orjson
import structlog
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Counter, Gauge, Histogram

from memepool_common.settings import TelemetrySettings

_SECRET_WORDS = ("password", "secret", "token", "signature", "authorization", "cookie", "seed")
LINKS_MAX = 32
IN_LOGS: ContextVar[Mapping[str, str] | None] = ContextVar("in_logs", default=None)
"""What every line of the log says that is written in this context: which request it is about."""
_propagator = TraceContextTextMapPropagator()
tracer = trace.get_tracer("memepool.events")

HTTP_REQUESTS = Counter(
    "memepool_http_requests_total", "Requests answered", ["service", "method", "route", "status"]
)
HTTP_SECONDS = Histogram(
    "memepool_http_request_seconds", "Time to answer a request", ["service", "method", "route"]
)
OUTBOX_PUBLISHED = Counter(
    "memepool_outbox_published_total", "Events handed to the bus", ["source"]
)
OUTBOX_FAILED = Counter("memepool_outbox_failed_total", "Failed publish attempts", ["source"])
OUTBOX_OLDEST_SECONDS = Gauge(
    "memepool_outbox_oldest_seconds", "Age of the oldest unpublished event", ["source"]
)
CONSUMED = Counter("memepool_consumed_total", "Events handled, by outcome", ["queue", "outcome"])
CONSUMER_PAUSED = Gauge(
    "memepool_consumer_paused", "1 while a consumer waits for lost infrastructure", ["queue"]
)
AUTH_SILENT_SECONDS = Gauge(
    "memepool_auth_silent_seconds", "Since auth last told this process what has ended"
)
TASK_FAILURES = Counter(
    "memepool_task_failures_total", "Unexpected failures of background tasks", ["task"]
)


def setup(service: str, settings: TelemetrySettings) -> None:
    """Configure logging and tracing for this process. Idempotent; the first call wins."""
    _setup_logging(settings)
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return
    provider = TracerProvider(
        resource=Resource.create({"service.name": f"memepool-{service}"}),
        sampler=ParentBasedTraceIdRatio(settings.sample_ratio),
    )
    if settings.otlp_endpoint:
        exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint, timeout=5)
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    PsycopgInstrumentor().instrument(skip_dep_check=True)


def current_traceparent() -> str | None:
    """The W3C traceparent of the current span, to be stored beside what it caused."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get("traceparent")


def remote_context(traceparent: str | None) -> Any:
    """The trace context of a stored or received traceparent, to start a span in."""
    return _propagator.extract({"traceparent": traceparent}) if traceparent else Context()


def context_of(span: trace.Span) -> Context:
    """The context in which a span is the current one. Beneath one that is not recorded nothing is:
    what a library spends on a span for each statement would be for nobody."""
    if span.is_recording():
        return trace.set_span_in_context(span)
    with suppress_instrumentation():
        return trace.set_span_in_context(span)


@contextmanager
def consumer_span(queue: str, traceparents: Sequence[str | None]) -> Iterator[trace.Span]:
    """A span for work that events of a queue caused: in the first one's trace, with links to more.

    Args:
        queue: its name.
        traceparents: of the events, as they were stored with them; at least one.
    """
    links = [
        trace.Link(trace.get_current_span(remote_context(each)).get_span_context())
        for each in traceparents[1:LINKS_MAX]
    ]
    with tracer.start_as_current_span(
        f"consume {queue}",
        context=remote_context(traceparents[0]),
        kind=trace.SpanKind.CONSUMER,
        links=links,
        record_exception=False,
    ) as span:
        token = context.attach(context_of(span))
        try:
            yield span
        finally:
            context.detach(token)


def _setup_logging(settings: TelemetrySettings) -> None:
    shared: list[Any] = [
        _add_context,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        _redact,
        structlog.processors.format_exc_info,
    ]
    if settings.log_json:  # past the standard library, which takes twice the time
        renderer: Any = structlog.processors.JSONRenderer(serializer=_to_json)
        last: list[Any] = [structlog.processors.JSONRenderer(serializer=_to_json_bytes)]
        loggers: Any = structlog.BytesLoggerFactory(sys.stderr.buffer)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        last = [structlog.stdlib.ProcessorFormatter.wrap_for_formatter]
        loggers = structlog.stdlib.LoggerFactory()
    structlog.configure(
        processors=[*shared, *last],
        logger_factory=loggers,
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level]
        ),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    for noisy in ("httpx", "httpcore", "uvicorn.access", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _to_json_bytes(event: dict[str, Any], **_: Any) -> bytes:
    return orjson.dumps(event, default=str)


def _to_json(event: dict[str, Any], **_: Any) -> str:
    return _to_json_bytes(event).decode()


def _add_context(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    event.update(IN_LOGS.get() or {})
    return event


def _add_trace(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = format(span.trace_id, "032x")
    return event


def _redact(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    for name in event:
        if _is_secret(name):
            event[name] = "[redacted]"
    return event


@functools.lru_cache(maxsize=1_000)  # names stand in the code, so they are few
def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_WORDS)
