"""Events sent to one queue again, on a real RabbitMQ."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest
from pydantic import BaseModel

from memepool_common.db import Database
from memepool_common.events import NewEvent, outbox, republish
from memepool_common.events.rabbitmq import RabbitBus

QUEUE, OTHER = "sample.things", "sample.others"
THING, NOISE = "memepool.sample.thing.happened.v1", "memepool.sample.noise.heard.v1"
TOPOLOGY = {
    QUEUE: ["sample.thing.happened.v1"],
    OTHER: ["sample.thing.happened.v1", "sample.noise.heard.v1"],
}


class Data(BaseModel):
    """What an event says."""

    n: int


async def written(database: Database, count: int) -> list[UUID]:
    """Events of both types; the ids of the things, in order."""
    events = [
        NewEvent(kind, "s", Data(n=n), "public") for n in range(count) for kind in (THING, NOISE)
    ]
    async with database.transaction() as session:
        await outbox.append(session, events)
    async with database.read() as session:
        rows = await session.exec_driver_sql(
            "select event_id from outbox where event_type = %s order by seq", (THING,)
        )
        return list(rows.scalars())


async def taken(bus: RabbitBus, count: int) -> list[UUID]:
    """The ids of that many messages in the queue."""
    found: list[UUID] = []
    async with bus.subscribe(QUEUE) as inlet, asyncio.timeout(30):
        while len(found) < count:
            received = await inlet.receive(100, 1)
            await inlet.ack(received)
            found += [each.message.id for each in received]
    return found


async def test_one_queue_hears_again_what_it_is_bound_to_and_no_other_does(
    database: Database, rabbit_bus: RabbitBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(republish, "WINDOW", 7)
    await rabbit_bus.declare(TOPOLOGY)
    things = await written(database, 30)
    assert await republish.republish(database, rabbit_bus, "/sample", QUEUE) == 30
    assert await taken(rabbit_bus, 30) == things
    assert await rabbit_bus.backlog(OTHER) == 0
    later = datetime.now(UTC)
    assert await republish.republish(database, rabbit_bus, "/sample", QUEUE, later) == 0
    things = await written(database, 2)
    assert await republish.republish(database, rabbit_bus, "/sample", QUEUE, later) == 2
    assert await taken(rabbit_bus, 2) == things[-2:]


async def test_the_consumer_sets_the_pace(
    database: Database, rabbit_bus: RabbitBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(republish, "WINDOW", 10)
    monkeypatch.setattr(republish, "BACKLOG_MAX", 4)
    await rabbit_bus.declare(TOPOLOGY)
    things = await written(database, 40)
    sending = asyncio.create_task(republish.republish(database, rabbit_bus, "/sample", QUEUE))
    async with asyncio.timeout(30):
        while await rabbit_bus.backlog(QUEUE) < 5:
            await asyncio.sleep(0.05)
    assert await rabbit_bus.backlog(QUEUE) == 5
    assert not sending.done()
    assert await taken(rabbit_bus, 40) == things
    assert await sending == 40


async def test_a_queue_that_is_not_there_is_named(
    database: Database, rabbit_bus: RabbitBus
) -> None:
    with pytest.raises(LookupError, match=r"no queue sample\.nothing"):
        await republish.republish(database, rabbit_bus, "/sample", "sample.nothing")
