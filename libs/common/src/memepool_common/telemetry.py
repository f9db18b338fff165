"""Logs, traces and metrics: set up once a process, used everywhere through the libraries' APIs."""

import functools
import logging
import sys
from typing import Any

import orjson
import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Counter, Gauge, Histogram

from memepool_common.settings import TelemetrySettings

_SECRET_WORDS = ("password", "secret", "token", "signature", "authorization", "cookie", "seed")
_propagator = TraceContextTextMapPropagator()

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
    return _propagator.extract({"traceparent": traceparent} if traceparent else {})


def span_link(traceparent: str | None) -> trace.Link:
    """A link to the span of a traceparent, for work that many requests caused together."""
    return trace.Link(trace.get_current_span(remote_context(traceparent)).get_span_context())


def _setup_logging(settings: TelemetrySettings) -> None:
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        _redact,
        structlog.processors.format_exc_info,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer(
            serializer=lambda event, **_: orjson.dumps(event, default=str).decode()
        )
        if settings.log_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,  # before anything is done for it
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
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
