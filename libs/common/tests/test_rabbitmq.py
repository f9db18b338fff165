"""What the RabbitMQ adapter promises beyond the port: it survives every kind of loss."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from uuid import UUID

import aio_pika
import pytest

from memepool_common.events.bus import BusUnavailableError, Delivery, Message
from memepool_common.events.rabbitmq import NotRoutedError, RabbitBus
from memepool_common.events.rabbitmq_topology import (
    DELIVERY_LIMIT,
    EVENTS_EXCHANGE,
    RETRY_DELAYS_S,
    dead_queue,
    plan,
    retry_key,
)
from memepool_common.ids import uuid7
from memepool_common.testing import until
from memepool_sandbox.rabbitmq_server import PrivateRabbitmq
from memepool_sandbox.testing.rabbitmq import Vhost, Vhosts

QUEUE = "sample.things"
TOPOLOGY = {QUEUE: ["sample.thing.happened.v1"]}


@pytest.fixture(scope="module")
def vhosts(private_rabbitmq: PrivateRabbitmq) -> Vhosts:
    return Vhosts(private_rabbitmq)


@pytest.fixture
def vhost(vhosts: Vhosts) -> Vhost:
    return vhosts.take()


@pytest.fixture
async def bus(vhost: Vhost) -> AsyncIterator[RabbitBus]:
    bus = RabbitBus(vhost.url("sample"), name="test")

    async def declared() -> bool:  # as workers do: a loaded broker may not form a queue in time
        try:
            await bus.declare(TOPOLOGY)
        except BusUnavailableError:
            return False
        return True

    await until(declared, 60)
    yield bus
    await bus.close()


def messages(count: int) -> list[Message]:
    return [
        Message(uuid7(), "sample.thing.happened.v1", {"ce-id": "x"}, b"{}") for _ in range(count)
    ]


class Consumer:
    """A consumer's loop without a database: acknowledges, and comes back after every loss."""

    def __init__(self, bus: RabbitBus) -> None:
        self.received: set[UUID] = set()
        self.losses = 0
        self._bus = bus
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                async with self._bus.subscribe(QUEUE) as inlet:
                    while True:
                        batch = await inlet.receive(100, 0.5)
                        self.received |= {delivery.message.id for delivery in batch}
                        await inlet.ack(batch)
            except BusUnavailableError:
                self.losses += 1
                await asyncio.sleep(0.5)

    async def has(self, sent: Sequence[Message]) -> None:
        wanted = {message.id for message in sent}
        await until(lambda: wanted <= self.received, 60)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture
async def consumer(bus: RabbitBus) -> AsyncIterator[Consumer]:
    consumer = Consumer(bus)
    first = messages(1)
    await publish_at_last(bus, first)
    await consumer.has(first)
    yield consumer
    await consumer.stop()


async def publish_at_last(bus: RabbitBus, sent: Sequence[Message]) -> int:
    """Publish as a relay does: what was refused, again. Returns how many rounds that took."""
    left, rounds = list(sent), 0
    async with asyncio.timeout(60):
        while left:
            rounds += 1
            outcomes = await bus.publish(left)
            left = [each for each, error in zip(left, outcomes, strict=True) if error]
            if left:
                await asyncio.sleep(0.5)
    return rounds


async def delete_queue(vhost: Vhost) -> None:
    async with await aio_pika.connect(vhost.url("auth")) as connection:
        await (await connection.channel()).queue_delete(QUEUE)


async def close_connections(vhost: Vhost) -> None:
    await asyncio.to_thread(vhost.server.close_connections, vhost.name)


async def kill_and_restart(vhost: Vhost) -> None:
    assert isinstance(vhost.server, PrivateRabbitmq)
    await asyncio.to_thread(vhost.server.kill)
    await asyncio.to_thread(vhost.server.start)


@pytest.mark.parametrize("lose", [delete_queue, close_connections, kill_and_restart])
async def test_a_consumer_comes_back_and_misses_nothing_published_since(
    vhost: Vhost, bus: RabbitBus, consumer: Consumer, lose: Callable[[Vhost], Awaitable[None]]
) -> None:
    await lose(vhost)
    await until(lambda: consumer.losses > 0, 30)

    async def bound_again() -> bool:  # until then, messages go to the catch-all
        probe = messages(1)
        await publish_at_last(bus, probe)
        await asyncio.sleep(0.1)
        return probe[0].id in consumer.received

    await until(bound_again, 60)
    sent = messages(20)
    await publish_at_last(bus, sent)
    await consumer.has(sent)


async def test_what_was_published_survives_the_broker_being_killed(
    vhost: Vhost, bus: RabbitBus
) -> None:
    sent = messages(200)
    await publish_at_last(bus, sent)
    await kill_and_restart(vhost)
    consumer = Consumer(bus)
    await consumer.has(sent)
    await consumer.stop()


async def test_publishing_to_a_dead_broker_is_an_error_of_each_message_and_soon(
    vhost: Vhost, bus: RabbitBus
) -> None:
    assert isinstance(vhost.server, PrivateRabbitmq)
    await publish_at_last(bus, messages(1))
    await asyncio.to_thread(vhost.server.kill)
    try:
        async with asyncio.timeout(5):
            outcomes = await bus.publish(messages(3))
        assert [type(each) for each in outcomes] == [BusUnavailableError] * 3
    finally:
        await asyncio.to_thread(vhost.server.start)
    await publish_at_last(bus, messages(3))


async def test_a_broker_killed_in_the_middle_of_publishing_loses_nothing_confirmed(
    vhost: Vhost, bus: RabbitBus
) -> None:
    sent = messages(3000)
    publishing = asyncio.create_task(publish_at_last(bus, sent))
    await asyncio.sleep(0.2)
    await kill_and_restart(vhost)
    assert await publishing > 1
    consumer = Consumer(bus)
    await consumer.has(sent)
    await consumer.stop()


async def test_an_undeclared_broker_takes_nothing_until_it_is_declared(vhost: Vhost) -> None:
    bus = RabbitBus(vhost.url("sample"), name="test")
    sent = messages(2)
    assert all(isinstance(each, BusUnavailableError) for each in await bus.publish(sent))
    with pytest.raises(BusUnavailableError, match="NOT_FOUND"):
        async with bus.subscribe(QUEUE):
            raise AssertionError("there is no such queue")
    await bus.declare(TOPOLOGY)
    assert await publish_at_last(bus, sent) == 1
    await bus.close()


async def test_a_message_that_no_queue_takes_is_an_error(vhost: Vhost, bus: RabbitBus) -> None:
    async with await aio_pika.connect(vhost.url("auth")) as connection:
        await (await connection.channel()).queue_delete("unrouted")
    known, unknown = messages(1)[0], Message(uuid7(), "nobody.listens.v1", {}, b"{}")
    first, second = await bus.publish([known, unknown])
    assert (first, type(second)) == (None, NotRoutedError)
    assert "NO_ROUTE" in str(second)


async def test_a_full_queue_refuses_and_takes_again_when_it_has_room(
    vhost: Vhost, bus: RabbitBus
) -> None:
    where = {"vhost": vhost.name, "name": "short", "pattern": QUEUE, "apply-to": "queues"}
    policy = where | {"definition": {"max-length": 5}}
    vhost.server.import_definitions({"policies": [policy]})
    refused: list[Message] = []

    async def full() -> bool:
        sent = messages(20)
        outcomes = await bus.publish(sent)
        refused.extend(each for each, error in zip(sent, outcomes, strict=True) if error)
        return bool(refused)

    await until(full, 30)
    consumer = Consumer(bus)
    await publish_at_last(bus, refused)
    await consumer.has(refused)
    await consumer.stop()


async def test_a_channel_that_the_broker_closes_returns_what_was_unsettled(bus: RabbitBus) -> None:
    sent = messages(3)
    await publish_at_last(bus, sent)
    with pytest.raises(BusUnavailableError):
        async with bus.subscribe(QUEUE) as inlet:
            received = list(await inlet.receive(3, 5))
            nonsense = Delivery(received[0].message, 0, 10**6)
            inlet._unsettled[nonsense.tag] = None
            await inlet.ack([nonsense])
            await until(lambda: inlet._lost is not None)
            await inlet.receive(3, 5)
    consumer = Consumer(bus)
    await consumer.has(sent)
    await consumer.stop()


async def test_settling_out_of_order_settles_exactly_those(bus: RabbitBus) -> None:
    sent = messages(6)
    await publish_at_last(bus, sent)
    async with bus.subscribe(QUEUE) as inlet:
        received: list[Delivery] = []
        while len(received) < 6:
            received += await inlet.receive(6, 5)
        await inlet.ack([received[5], received[1]])
        await inlet.ack([received[0]])
        await inlet.ack([])
    async with bus.subscribe(QUEUE) as inlet:
        again: list[Delivery] = []
        while len(again) < 3:
            again += await inlet.receive(6, 5)
        assert [each.message.id for each in again] == [sent[n].id for n in (2, 3, 4)]
        assert await inlet.receive(6, 0.2) == []


async def test_what_kills_every_consumer_is_dead_lettered_by_the_broker(
    vhost: Vhost, bus: RabbitBus
) -> None:
    (sent,) = messages(1)
    await publish_at_last(bus, [sent])
    for _ in range(DELIVERY_LIMIT + 1):
        async with bus.subscribe(QUEUE) as inlet:
            assert [each.message.id for each in await inlet.receive(1, 10)] == [sent.id]
    async with bus.subscribe(dead_queue(QUEUE)) as inlet:
        (dead,) = await inlet.receive(1, 10)
        assert (dead.message.id, dead.message.body) == (sent.id, sent.body)


async def test_a_retry_keeps_the_message_its_sender_and_the_count(
    vhost: Vhost, bus: RabbitBus
) -> None:
    sender = RabbitBus(vhost.url("rounds"), name="test")
    (sent,) = messages(1)
    await publish_at_last(sender, [sent])
    async with bus.subscribe(QUEUE) as inlet:
        for attempts in range(3):
            (delivery,) = await inlet.receive(1, 10)
            assert delivery.message == sent
            assert (delivery.attempts, delivery.sender) == (attempts, vhost.user("rounds"))
            await inlet.retry(delivery, 0.1)
    await sender.close()


async def test_somebody_elses_message_does_not_pass_for_our_own_retry(
    vhost: Vhost, bus: RabbitBus
) -> None:
    notes = {"x-sender": vhost.user("auth"), "x-routing-key": "auth.x.v1", "x-attempts": "many"}
    async with await aio_pika.connect(vhost.url("rounds")) as connection:
        events = await (await connection.channel()).get_exchange(EVENTS_EXCHANGE)
        for user in (vhost.user("rounds"), None):
            forged = aio_pika.Message(b"{}", headers=dict(notes), user_id=user)
            await events.publish(forged, "sample.thing.happened.v1")
    async with bus.subscribe(QUEUE) as inlet:
        received: list[Delivery] = []
        while len(received) < 2:
            received += await inlet.receive(2, 10)
    assert [each.sender for each in received] == [vhost.user("rounds"), ""]
    assert [each.message.routing_key for each in received] == ["sample.thing.happened.v1"] * 2


def test_every_queue_has_its_limits_and_a_place_for_what_fails() -> None:
    made = plan({"a.things": ["b.c.v1"], "a.more": ["b.c.v1", "b.d.v1"], "unrouted": []})
    waiting = {f"a.retry.{delay_s}s" for delay_s in RETRY_DELAYS_S}
    work = {"a.things", "a.more"}
    assert set(made.queues) == work | {dead_queue(each) for each in work} | waiting | {"unrouted"}
    for name, arguments in made.queues.items():
        assert arguments["x-queue-type"] == "quorum", name
        assert arguments["x-overflow"] == "reject-publish", name
        assert {"x-delivery-limit", "x-max-length"} <= set(arguments), name
        if name in work | waiting:
            assert arguments["x-dead-letter-strategy"] == "at-least-once", name
    assert {key for _, key, queue in made.bindings if queue == "a.more"} == {
        "b.c.v1",
        "b.d.v1",
        "*.a.more",
        *("b.c.v1.a.more", "b.d.v1.a.more"),
    }


@pytest.mark.parametrize(
    ("delay_s", "key"), [(0, "1s.q"), (1, "1s.q"), (1.1, "5s.q"), (30, "30s.q"), (9999, "120s.q")]
)
def test_a_retry_waits_at_least_as_long_as_asked_up_to_the_longest(
    delay_s: float, key: str
) -> None:
    assert retry_key("q", delay_s) == key


async def test_a_deleted_dead_letter_queue_is_made_again_when_it_is_needed(
    vhost: Vhost, bus: RabbitBus
) -> None:
    await publish_at_last(bus, messages(2))
    async with await aio_pika.connect(vhost.url("auth")) as connection:
        await (await connection.channel()).queue_delete(dead_queue(QUEUE))
    settled = 0
    async with asyncio.timeout(60):
        while settled < 2:  # as a consumer does
            try:
                async with bus.subscribe(QUEUE) as inlet:
                    while settled < 2:
                        for delivery in await inlet.receive(1, 1):
                            await inlet.dead_letter(delivery, "poison")
                            settled += 1
            except BusUnavailableError:
                await asyncio.sleep(0.5)
    assert await bus.backlog(dead_queue(QUEUE)) == 2


async def test_a_deleted_exchange_is_made_again_when_it_is_needed(
    vhost: Vhost, bus: RabbitBus, consumer: Consumer
) -> None:
    async with await aio_pika.connect(vhost.url("auth")) as connection:
        await (await connection.channel()).exchange_delete(EVENTS_EXCHANGE)
    sent = messages(3)
    await publish_at_last(bus, sent)
    await consumer.has(sent)
