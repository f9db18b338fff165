"""A collector of traces, as an operator would run one: OTLP over HTTP."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

BODY_BYTES_MAX = 16 * 1024 * 1024


class Collector:
    """Remembers the names of all spans by their trace."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = defaultdict(set)
        self.endpoint = ""

    def names(self, trace_id: str) -> set[str]:
        """What a trace has so far."""
        return set(self._names[trace_id])

    def add(self, request: ExportTraceServiceRequest) -> None:
        """Take spans in."""
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self._names[span.trace_id.hex()].add(span.name)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A running collector."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = min(int(self.headers["Content-Length"]), BODY_BYTES_MAX)
            collector.add(ExportTraceServiceRequest.FromString(self.rfile.read(size)))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    collector.endpoint = f"http://127.0.0.1:{server.server_port}/v1/traces"
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
