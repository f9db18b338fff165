"""Spans and logs: one trace from the request to the statement and the event; no secrets."""

import json
import logging
from contextlib import nullcontext

import httpx
import pytest
import structlog
from fastapi import APIRouter
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY
from sqlalchemy import text
from starlette.types import Message, Receive, Scope, Send

from memepool_common import telemetry
from memepool_common.db import Database
from memepool_common.events import NewEvent, outbox
from memepool_common.settings import HttpSettings, TelemetrySettings
from memepool_common.web.app import build_app
from memepool_common.web.deps import SessionDep
from memepool_common.web.middleware import RequestContext
from memepool_common.web.model import WireModel

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
router = APIRouter()


class Noted(WireModel):
    name: str


@router.post("/things/{thing_id}")
async def note_thing(thing_id: str, session: SessionDep) -> Noted:
    noted = Noted(name=thing_id)
    event = NewEvent("memepool.sample.thing.noted.v1", thing_id, noted, "public")
    await outbox.append(session, [event])
    return noted


@pytest.fixture
def spans() -> InMemorySpanExporter:
    telemetry.setup("tests", TelemetrySettings(log_level="WARNING", log_json=False))
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


@pytest.mark.parametrize("recorded", [True, False])
async def test_a_request_its_statements_and_its_event_are_one_trace(
    database: Database, spans: InMemorySpanExporter, recorded: bool
) -> None:
    app = build_app(
        service="sample",
        description="",
        settings=HttpSettings(),
        lifespan=lambda _app: nullcontext(),
        routers=[router],
        errors={},
    )
    app.state.database = database
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sample") as client:
        headers = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-0{int(recorded)}"}
        answer = await client.post("/things/42", headers=headers)
    assert answer.status_code == 200
    finished = [
        span for span in spans.get_finished_spans() if f"{span.context.trace_id:032x}" == TRACE_ID
    ]
    names = [span.name for span in finished]
    assert ("POST /things/{thing_id}" in names) == recorded
    assert any("insert" in name.lower() for name in names) == recorded, names
    async with database.read() as session:
        stored = (await session.execute(text("select traceparent from outbox"))).scalar_one()
    assert stored.split("-")[1] == TRACE_ID


def test_secrets_do_not_reach_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    telemetry.setup("tests", TelemetrySettings(log_json=True))
    structlog.get_logger("x").warning(
        "signed_in", access_token="eyJ", signature="c2ln", wallet="1abc"
    )
    line = json.loads(capsys.readouterr().err.strip().splitlines()[-1])
    assert (line["access_token"], line["signature"]) == ("[redacted]", "[redacted]")
    assert (line["wallet"], line["event"], line["level"]) == ("1abc", "signed_in", "warning")
    logging.getLogger().handlers = []
    structlog.configure(**before)


async def test_a_client_that_left_is_no_failure_of_ours() -> None:
    async def unanswered(_scope: Scope, _receive: Receive, _send: Send) -> None:
        """As an application does whose client has gone."""

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_message: Message) -> None:
        pytest.fail("nobody is there")

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    await RequestContext(unanswered, "left")(scope, receive, send)
    labels = {"service": "left", "method": "any", "route": "unmatched", "status": "499"}
    assert REGISTRY.get_sample_value("memepool_http_requests_total", labels) == 1
