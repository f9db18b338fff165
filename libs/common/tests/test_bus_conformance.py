"""What every adapter of the bus promises, seen through its port alone."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from memepool_common.events.bus import UNROUTED_QUEUE, Bus, Delivery, Message
from memepool_common.ids import uuid7

TOPOLOGY = {
    "rounds.stakes": ["payments.stake.held.v1", "payments.stake.rejected.v1"],
    "auth.stats": ["payments.stake.held.v1"],
    UNROUTED_QUEUE: [],
}


def message(key: str = "payments.stake.held.v1", body: bytes = b"{}") -> Message:
    return Message(uuid7(), key, {"ce-id": "x", "ce-type": "memepool." + key}, body)


def ids(deliveries: Sequence[Delivery]) -> list[UUID]:
    return [delivery.message.id for delivery in deliveries]


async def take(bus: Bus, queue: str, size_max: int = 100, quiet_s: float = 1) -> list[Delivery]:
    """Receive and acknowledge, until there is nothing for a while."""
    received: list[Delivery] = []
    async with bus.subscribe(queue) as inlet:
        while batch := await inlet.receive(size_max - len(received), quiet_s):
            await inlet.ack(batch)
            received += batch
            if len(received) == size_max:
                break
    return received


async def test_a_message_reaches_every_bound_queue_whole(bus: Bus) -> None:
    await bus.declare(TOPOLOGY)
    sent = message(body=b'{"n": 1}\xff')
    assert list(await bus.publish([sent])) == [None]
    for queue in ("rounds.stakes", "auth.stats"):
        assert [delivery.message for delivery in await take(bus, queue)] == [sent]


async def test_what_is_published_in_order_arrives_in_order(bus: Bus) -> None:
    await bus.declare(TOPOLOGY)
    sent = [message() for _ in range(50)]
    await bus.publish(sent)
    assert ids(await take(bus, "auth.stats")) == [each.id for each in sent]


async def test_an_unroutable_message_is_kept_in_the_catch_all(bus: Bus) -> None:
    await bus.declare(TOPOLOGY)
    sent = message("nobody.listens.here.v1")
    assert list(await bus.publish([sent])) == [None]
    assert ids(await take(bus, UNROUTED_QUEUE)) == [sent.id]


async def test_an_acknowledged_message_is_gone_and_others_stay(bus: Bus) -> None:
    await bus.declare(TOPOLOGY)
    first, second = message(), message()
    await bus.publish([first, second])
    assert ids(await take(bus, "auth.stats", size_max=1)) == [first.id]
    assert ids(await take(bus, "auth.stats")) == [second.id]
    assert await take(bus, "auth.stats") == []


async def test_unsettled_deliveries_return_when_the_consumer_goes(bus: Bus) -> None:
    await bus.declare(TOPOLOGY)
    sent = message()
    await bus.publish([sent])
    async with bus.subscribe("auth.stats") as inlet:
        assert ids(await inlet.receive(10, 1)) == [sent.id]
    assert ids(await take(bus, "auth.stats", quiet_s=3)) == [sent.id]


async def test_two_consumers_of_a_queue_share_it(bus: Bus) -> None:
    await bus.declare(TOPOLOGY)
    sent = [message() for _ in range(10)]
    async with bus.subscribe("auth.stats") as one, bus.subscribe("auth.stats") as other:
        await bus.publish(sent)
        received: list[UUID] = []
        async with asyncio.timeout(10):
            while len(received) < len(sent):
                for inlet in (one, other):
                    batch = await inlet.receive(2, 0.1)
                    received += ids(batch)
                    await inlet.ack(batch)
        assert sorted(received) == sorted(each.id for each in sent)


async def test_a_retry_comes_back_later_and_counts_the_attempt(bus: Bus) -> None:
    await bus.declare(TOPOLOGY)
    await bus.publish([message()])
    async with bus.subscribe("auth.stats") as inlet:
        (delivery,) = await inlet.receive(10, 1)
        assert delivery.attempts == 0
        await inlet.retry(delivery, 0.3)
        assert await inlet.receive(10, 0.05) == []
        (again,) = await inlet.receive(10, 5)
        assert (again.message.id, again.attempts) == (delivery.message.id, 1)
        await inlet.ack([again])


async def test_a_dead_letter_is_not_delivered_again(bus: Bus) -> None:
    await bus.declare(TOPOLOGY)
    await bus.publish([message()])
    async with bus.subscribe("auth.stats") as inlet:
        (delivery,) = await inlet.receive(10, 1)
        await inlet.dead_letter(delivery, "poison")
    assert await take(bus, "auth.stats") == []
    assert len(await take(bus, "rounds.stakes")) == 1


async def test_a_waiting_consumer_is_woken_by_a_publish(bus: Bus) -> None:
    await bus.declare(TOPOLOGY)
    async with bus.subscribe("auth.stats") as inlet:
        waiting = asyncio.create_task(inlet.receive(10, 10))
        await asyncio.sleep(0)
        sent = message()
        await bus.publish([sent])
        async with asyncio.timeout(5):
            received = await waiting
        assert ids(received) == [sent.id]
        await inlet.ack(received)


async def test_a_redeclared_bus_still_has_what_was_published(bus: Bus) -> None:
    await bus.declare(TOPOLOGY)
    sent = message()
    await bus.publish([sent])
    await bus.declare(TOPOLOGY)
    assert ids(await take(bus, "auth.stats")) == [sent.id]
