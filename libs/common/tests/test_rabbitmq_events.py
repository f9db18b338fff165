"""Outbox to handler over RabbitMQ: who may say what, and one trace from end to end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import aio_pika
from opentelemetry import trace
from sqlalchemy import text

from memepool_common.db import Database, Session
from memepool_common.events import Event, NewEvent, Subscription, outbox, run_consumer, run_relay
from memepool_common.events.bus import UNROUTED_QUEUE, Message
from memepool_common.events.envelope import PUBLIC
from memepool_common.events.rabbitmq import RabbitBus
from memepool_common.events.rabbitmq_topology import EVENTS_EXCHANGE
from memepool_common.ids import uuid7
from memepool_common.testing import until
from memepool_common.web.model import WireModel
from memepool_common.worker import run_all
from memepool_sandbox.testing.rabbitmq import Vhost

THING_HAPPENED = "memepool.sample.thing.happened.v1"
QUEUE = "sample.things"
ROUTING_KEY = THING_HAPPENED.removeprefix("memepool.")


class Thing(WireModel):
    name: str


class Recorder:
    """A handler that keeps what it was given, and the trace it ran in."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.trace_ids: list[int] = []

    async def handle(self, _session: Session, events: Sequence[Event]) -> None:
        self.events += events
        self.trace_ids.append(trace.get_current_span().get_span_context().trace_id)

    def subscription(self) -> Subscription:
        return Subscription(QUEUE, {THING_HAPPENED: self.handle})


@contextlib.asynccontextmanager
async def running(database: Database, bus: RabbitBus, recorder: Recorder) -> AsyncIterator[None]:
    await bus.declare({QUEUE: [ROUTING_KEY], UNROUTED_QUEUE: []})
    stopping = asyncio.Event()
    task = asyncio.create_task(
        run_all(
            run_relay(database, bus, "/sample", stopping),
            run_consumer(database, bus, recorder.subscription(), stopping),
        )
    )
    try:
        yield
    finally:
        stopping.set()
        await task


async def announce(database: Database, name: str) -> None:
    async with database.transaction() as session:
        await outbox.append(session, [NewEvent(THING_HAPPENED, name, Thing(name=name), PUBLIC)])


def event(source: str, routing_key: str = ROUTING_KEY) -> Message:
    """What a service would publish that says it is `source`."""
    event_id = uuid7()
    headers = {"ce-specversion": "1.0", "ce-id": str(event_id), "ce-source": source}
    headers |= {"ce-type": THING_HAPPENED, "ce-subject": "a", "ce-audience": PUBLIC}
    headers |= {"ce-time": "2026-01-01T00:00:00Z"}
    return Message(event_id, routing_key, headers, b'{"name": "forged"}')


async def test_an_event_in_somebody_elses_name_is_dead_lettered_and_has_no_effect(
    database: Database,
    rabbit_bus: RabbitBus,
    rabbitmq_vhost: Vhost,
    dead_letters_of: Callable[[str], Awaitable[list[tuple[str, int]]]],
) -> None:
    recorder = Recorder()
    async with running(database, rabbit_bus, recorder):
        forger = RabbitBus(rabbitmq_vhost.url("rounds"), name="forger")
        assert await forger.publish([event("/sample")]) == [None]
        await forger.close()
        async with await aio_pika.connect(rabbitmq_vhost.url("rounds")) as connection:
            exchange = await (await connection.channel()).get_exchange(EVENTS_EXCHANGE)
            anonymous = event("/sample")
            unsigned = aio_pika.Message(anonymous.body, headers={**anonymous.headers})
            await exchange.publish(unsigned, ROUTING_KEY)
        await announce(database, "genuine")
        await until(lambda: bool(recorder.events), 30)
    assert [each.data for each in recorder.events] == [{"name": "genuine"}]
    reasons = [reason for reason, _ in await dead_letters_of(QUEUE)]
    assert len(reasons) == 2
    assert rabbitmq_vhost.user("rounds") in reasons[0]
    assert all("in the name of '/sample'" in reason for reason in reasons)


async def test_what_only_another_service_may_say_is_dead_lettered_under_an_own_key(
    database: Database,
    rabbit_bus: RabbitBus,
    rabbitmq_vhost: Vhost,
    dead_letters_of: Callable[[str], Awaitable[list[tuple[str, int]]]],
) -> None:
    recorder = Recorder()
    own_key = "rounds.round.closed.v1"
    async with running(database, rabbit_bus, recorder):
        await rabbit_bus.declare({QUEUE: [ROUTING_KEY, own_key]})
        forger = RabbitBus(rabbitmq_vhost.url("rounds"), name="forger")
        assert await forger.publish([event("/rounds", own_key)]) == [None]
        await forger.close()
        await announce(database, "genuine")
        await until(lambda: bool(recorder.events), 30)
    assert [each.data for each in recorder.events] == [{"name": "genuine"}]
    ((reason, _),) = await dead_letters_of(QUEUE)
    assert THING_HAPPENED in reason


async def test_the_handler_runs_in_the_trace_of_the_request_that_caused_it(
    database: Database, rabbit_bus: RabbitBus
) -> None:
    recorder = Recorder()
    request = trace.SpanContext(0xABCDEF, 0x1234, is_remote=False, trace_flags=trace.TraceFlags(1))
    async with running(database, rabbit_bus, recorder):
        with trace.use_span(trace.NonRecordingSpan(request)):
            await announce(database, "a")
        await until(lambda: bool(recorder.events), 30)
        async with database.read() as session:
            stored = await session.execute(text("select traceparent from outbox"))
    assert [each.traceparent for each in recorder.events] == stored.scalars().all()
    assert recorder.trace_ids == [request.trace_id]
