"""Outbox, relay and consumers together: exactly one effect, whatever is repeated or fails."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from sqlalchemy import text

from memepool_common.db import Database, Session
from memepool_common.events import Event, NewEvent, RetryLater, Subscription, outbox
from memepool_common.events.bus import UNROUTED_QUEUE, Bus
from memepool_common.events.envelope import PUBLIC, from_message, to_message
from memepool_common.testing import CountedBus, UnreliableBus
from memepool_common.web.model import WireModel
from memepool_common.worker import run_all, run_consumer, run_relay

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


async def test_not_yet_is_tried_again_until_it_succeeds(
    database: Database, bus: CountedBus, effects: Effects
) -> None:
    tries = 0

    async def third_time_lucky(session: Session, events: Sequence[Event]) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise RetryLater("not yet", 0.01)
        await leave_effect(session, events)

    async with running(database, bus, subscription(third_time_lucky)):
        await announce(database, "a")
        await bus.drain(database)
    assert (await effects(), tries) == (["a"], 3)


async def test_lost_infrastructure_pauses_and_rejects_nothing(
    database: Database, bus: CountedBus, effects: Effects
) -> None:
    losses = 3

    async def lose_connection(session: Session, events: Sequence[Event]) -> None:
        nonlocal losses
        if losses:
            losses -= 1
            await session.execute(text("select pg_terminate_backend(pg_backend_pid())"))
        await leave_effect(session, events)

    async with running(database, bus, subscription(lose_connection, retry_delays_s=())):
        await announce(database, "a", "b")
        await bus.drain(database)
    assert (await effects(), losses) == (["a", "b"], 0)


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
