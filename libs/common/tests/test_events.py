"""Outbox, relay and consumers together: exactly one effect, whatever is repeated or fails."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from memepool_common.db import Database, Session, Statement, run
from memepool_common.events import Event, NewEvent, Subscription, outbox, run_consumer, run_relay
from memepool_common.events.bus import UNROUTED_QUEUE, Bus, Delivery, Inlet
from memepool_common.events.consumer import rows_in_sql
from memepool_common.events.envelope import PUBLIC, from_message, to_message
from memepool_common.testing import CountedBus, UnreliableBus, until
from memepool_common.web.model import WireModel
from memepool_common.worker import run_all

THING_HAPPENED = "memepool.sample.thing.happened.v1"
Effects = Callable[[], Awaitable[list[str]]]


class Thing(WireModel):
    name: str


async def announce(database: Database, *names: str) -> None:
    async with database.transaction() as session:
        events = [NewEvent(THING_HAPPENED, name, Thing(name=name), PUBLIC) for name in names]
        await outbox.append(session, events)


async def leave_effect(session: Session, events: Sequence[Event]) -> None:
    for event in events:
        if event.data["name"] == "poison":
            raise ValueError("cannot be handled")
        await session.execute(text("insert into effect (name) values (:name)"), event.data)


def subscription(handler: object = leave_effect, **options: object) -> Subscription:
    return Subscription("sample.things", {THING_HAPPENED: handler}, **options)  # type: ignore[arg-type, dict-item]  # test doubles


@contextlib.asynccontextmanager
async def running(
    database: Database, bus: Bus, consumer: Subscription
) -> AsyncIterator[asyncio.Event]:
    await bus.declare({consumer.queue: consumer.routing_keys, UNROUTED_QUEUE: []})
    stopping = asyncio.Event()
    task = asyncio.create_task(
        run_all(
            run_relay(database, bus, "/sample", stopping),
            run_consumer(database, bus, consumer, stopping),
        )
    )
    try:
        yield stopping
    finally:
        stopping.set()
        await task


async def test_an_announced_event_has_its_effect_once(
    database: Database, bus: CountedBus, effects: Effects
) -> None:
    async with running(database, bus, subscription()):
        await announce(database, "a", "b", "c")
        await bus.drain(database)
    assert await effects() == ["a", "b", "c"]


async def test_an_event_that_sql_wrote_is_relayed_like_any_other(
    database: Database, bus: CountedBus, effects: Effects
) -> None:
    insert = (
        "insert into outbox (event_id, event_type, subject, version, audience, payload,"
        " traceparent, occurred_at) select id, %s, 'x', 1, 'public',"
        """ convert_to('{"name": "' || n || '"}', 'UTF8'), %s::text, now()"""
        " from unnest(%s::uuid[]) with ordinality as e (id, n)"
    )
    async with running(database, bus, subscription()):
        async with database.statement() as session:
            told = outbox.written_in_sql(session, 2)
            await run(session, insert, (THING_HAPPENED, told["traceparent"], told["event_ids"]))
        await bus.drain(database)
    assert await effects() == ["1", "2"]


async def test_a_paced_consumer_leaves_time_for_more_to_come(
    database: Database, bus: CountedBus
) -> None:
    loop, pace_s, started_s = asyncio.get_running_loop(), 0.05, list[float]()

    async def note(session: Session, events: Sequence[Event]) -> None:
        started_s.append(loop.time())

    async with running(database, bus, subscription(note, pace_s=pace_s, batch_max=1)):
        await announce(database, *"abcd")
        await bus.drain(database)
    gaps_s = [later - earlier for earlier, later in itertools.pairwise(started_s)]
    assert len(gaps_s) == 3
    assert sum(gaps_s) > 3 * pace_s - 0.04


async def test_a_rolled_back_change_announces_nothing(
    database: Database, bus: CountedBus, effects: Effects
) -> None:
    async with running(database, bus, subscription()):
        with pytest.raises(RuntimeError, match="changed my mind"):
            async with database.transaction() as session:
                await outbox.append(
                    session, [NewEvent(THING_HAPPENED, "a", Thing(name="a"), PUBLIC)]
                )
                raise RuntimeError("changed my mind")
        await bus.drain(database)
    assert await effects() == []


async def test_every_event_delivered_twice_late_and_shuffled_counts_once(
    database: Database, bus: CountedBus, effects: Effects
) -> None:
    names = [f"{number:03}" for number in range(200)]
    unreliable = UnreliableBus(bus, seed=7)
    async with running(database, unreliable, subscription(batch_max=16)):
        for start in range(0, 200, 50):
            await announce(database, *names[start : start + 50])
        await bus.drain(database)
        await unreliable.settle()
        await bus.drain(database)
    assert await effects() == names


async def test_a_handler_that_is_one_statement_writes_the_inbox_with_it(
    database: Database, bus: CountedBus, effects: Effects
) -> None:
    noted = list[bool]()

    async def insert(session: Session | Statement, events: Sequence[Event]) -> None:
        rows = rows_in_sql(session)
        noted.append(rows.before != "")
        begun = f"{rows.before.rstrip()}, " if rows.before else "with "
        names = [event.data["name"] for event in events]
        await run(
            session,
            f"{begun} made as (insert into effect (name) select unnest(%s::text[]))"
            f" select 1{rows.after}",
            (*rows.values, names),
        )

    unreliable = UnreliableBus(bus, seed=7)
    consumer = subscription(insert, batch_max=4, one_statement={THING_HAPPENED: insert})
    async with running(database, unreliable, consumer):
        await announce(database, *"abcdefgh")
        await bus.drain(database)
        await unreliable.settle()
        await bus.drain(database)
    assert await effects() == list("abcdefgh")
    assert True in noted


async def test_poison_is_dead_lettered_alone(
    database: Database,
    bus: CountedBus,
    effects: Effects,
    dead_letters: Callable[[str], Awaitable[list[tuple[str, int]]]],
) -> None:
    consumer = subscription(retry_delays_s=(0.01, 0.01))
    async with running(database, bus, consumer):
        await announce(database, *"abcdefg", "poison", *"hijklmn")
        await bus.drain(database)
    assert await effects() == list("abcdefghijklmn")
    assert await dead_letters(consumer.queue) == [("ValueError('cannot be handled')", 2)]


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param("select pg_terminate_backend(pg_backend_pid())", id="connection"),
        pytest.param("select from made_by_the_next_migration", id="migration"),
    ],
)
async def test_lost_infrastructure_pauses_and_rejects_nothing(
    database: Database, bus: CountedBus, effects: Effects, loss: str
) -> None:
    losses = 3

    async def lose_connection(session: Session, events: Sequence[Event]) -> None:
        nonlocal losses
        if losses:
            losses -= 1
            await session.execute(text(loss))
        await leave_effect(session, events)

    async with running(database, bus, subscription(lose_connection, retry_delays_s=())):
        await announce(database, "a", "b")
        await bus.drain(database)
    assert (await effects(), losses) == (["a", "b"], 0)


async def test_a_consumer_without_its_broker_says_so(
    database: Database, bus: CountedBus, effects: Effects
) -> None:
    back = asyncio.Event()
    consumer = subscription()
    await bus.declare({consumer.queue: consumer.routing_keys})

    class _AwayBus:
        @contextlib.asynccontextmanager
        async def subscribe(self, queue: str) -> AsyncIterator[object]:
            if not back.is_set():
                raise ConnectionError("away")
            async with bus.subscribe(queue) as inlet:
                yield inlet

    def paused() -> float | None:
        return REGISTRY.get_sample_value("memepool_consumer_paused", {"queue": consumer.queue})

    await announce(database, "a")
    stopping = asyncio.Event()
    relay = asyncio.create_task(run_relay(database, bus, "/sample", stopping))
    consuming = asyncio.create_task(
        run_consumer(database, _AwayBus(), consumer, stopping)  # type: ignore[arg-type]  # a test double
    )
    await until(lambda: paused() == 1)
    back.set()
    await bus.drain(database)
    assert (await effects(), paused()) == (["a"], 0)
    stopping.set()
    await asyncio.gather(relay, consuming)


async def test_poison_that_cannot_be_put_aside_yet_returns_nothing_to_the_queue(
    database: Database,
    bus: CountedBus,
    effects: Effects,
    dead_letters: Callable[[str], Awaitable[list[tuple[str, int]]]],
) -> None:
    refusals = [ConnectionError("no room")] * 3
    subscribed = 0
    consumer = subscription(retry_delays_s=())
    await bus.declare({consumer.queue: consumer.routing_keys})

    class _FullBus:
        """Takes no dead letters for a while."""

        @contextlib.asynccontextmanager
        async def subscribe(self, queue: str) -> AsyncIterator[Inlet]:
            nonlocal subscribed
            subscribed += 1
            async with bus.subscribe(queue) as inlet:
                put_aside = inlet.dead_letter

                async def dead_letter(delivery: Delivery, reason: str) -> None:
                    if refusals:
                        assert await effects() == ["a", "b"]  # what is well does not wait for it
                        raise refusals.pop()
                    await put_aside(delivery, reason)

                inlet.dead_letter = dead_letter  # type: ignore[method-assign]  # a test double
                yield inlet

    await announce(database, "poison", "a", "b")
    stopping = asyncio.Event()
    relay = asyncio.create_task(run_relay(database, bus, "/sample", stopping))
    await until(lambda: bus.unsettled(consumer.queue) == 3)
    consuming = asyncio.create_task(
        run_consumer(database, _FullBus(), consumer, stopping)  # type: ignore[arg-type]  # a test double
    )
    await bus.drain(database)
    assert (await effects(), subscribed) == (["a", "b"], 1)
    assert await dead_letters(consumer.queue) == [("ValueError('cannot be handled')", 0)]
    stopping.set()
    await asyncio.gather(relay, consuming)


async def test_a_crash_between_commit_and_ack_repeats_no_effect(
    database: Database, bus: CountedBus, effects: Effects
) -> None:
    consumer = subscription()
    await bus.declare({consumer.queue: consumer.routing_keys})

    class _CrashingInlet:
        """Dies instead of acknowledging."""

        def __init__(self, inlet: object) -> None:
            self._inlet = inlet

        def __getattr__(self, name: str) -> object:
            if name == "ack":
                raise SystemExit("killed")
            return getattr(self._inlet, name)

    class _CrashingBus:
        @contextlib.asynccontextmanager
        async def subscribe(self, queue: str) -> AsyncIterator[object]:
            async with bus.subscribe(queue) as inlet:
                yield _CrashingInlet(inlet)

    await announce(database, "a")
    stopping = asyncio.Event()
    relay = asyncio.create_task(run_relay(database, bus, "/sample", stopping))
    with pytest.raises(SystemExit):
        await run_consumer(database, _CrashingBus(), consumer, stopping)  # type: ignore[arg-type]  # a test double
    assert await effects() == ["a"]
    finishing = asyncio.create_task(run_consumer(database, bus, consumer, stopping))
    await bus.drain(database)
    stopping.set()
    await asyncio.gather(relay, finishing)
    assert await effects() == ["a"]


async def test_rows_that_commit_late_are_published_all_the_same(
    database: Database, bus: CountedBus, effects: Effects
) -> None:
    async with running(database, bus, subscription()):
        async with database.transaction() as slow:
            await outbox.append(slow, [NewEvent(THING_HAPPENED, "a", Thing(name="a"), PUBLIC)])
            await announce(database, "b")
            async with asyncio.timeout(10):
                while await effects() != ["b"]:
                    await asyncio.sleep(0.01)
        await bus.drain(database)
    assert await effects() == ["a", "b"]


async def test_a_second_relay_stands_by_and_takes_over(
    database: Database, bus: CountedBus, effects: Effects
) -> None:
    consumer = subscription()
    first_stops = asyncio.Event()
    async with running(database, bus, consumer):
        standby = asyncio.create_task(run_relay(database, bus, "/sample", first_stops))
        await announce(database, "a")
        await bus.drain(database)
        first_stops.set()
        await standby
    assert await effects() == ["a"]


async def test_a_large_event_travels_packed_and_arrives_whole(
    database: Database,
) -> None:
    name = "long " * 100_000
    await announce(database, name)
    async with database.read() as session:
        row = (await session.execute(text("select * from outbox"))).one()
    sent = to_message(row, "/sample")
    assert len(sent.body) < 10_000
    assert from_message(sent).data == {"name": name}
