import asyncio
import time

from memepool_common.events.bus import Delivery, Message
from memepool_common.events.rabbitmq import RabbitBus
from memepool_common.events.replay import DELAY_S, replay_dead_letters
from memepool_common.ids import uuid7
from memepool_sandbox.testing.rabbitmq import Vhost

QUEUE = "sample.things"
KEY = "other.thing.happened.v1"


async def deliveries(bus: RabbitBus, count: int) -> list[Delivery]:
    found: list[Delivery] = []
    async with bus.subscribe(QUEUE) as inlet, asyncio.timeout(30):
        while len(found) < count:
            received = await inlet.receive(10, 1)
            await inlet.ack(received)
            found += received
    return found


async def test_dead_letters_come_back_as_they_were_and_only_once(rabbitmq_vhost: Vhost) -> None:
    """With all their attempts, and still in the name of who said them first."""
    bus = RabbitBus(rabbitmq_vhost.url("sample"), name="test")
    other = RabbitBus(rabbitmq_vhost.url("auth"), name="another service")
    try:
        await bus.declare({QUEUE: [KEY]})
        assert await replay_dead_letters(bus, QUEUE) == 0
        sent = [Message(uuid7(), KEY, {"ce-id": str(n)}, b"{}") for n in range(3)]
        assert await other.publish(sent) == [None] * 3
        async with bus.subscribe(QUEUE) as inlet, asyncio.timeout(30):
            dead = 0
            while dead < len(sent):
                for each in await inlet.receive(10, 1):
                    await inlet.dead_letter(each, "a bug")
                    dead += 1
        started = time.monotonic()
        assert await replay_dead_letters(bus, QUEUE) == 3
        assert await replay_dead_letters(bus, QUEUE) == 0
        found = await deliveries(bus, 3)
        assert time.monotonic() - started >= DELAY_S
        assert [each.message for each in found] == sent
        assert {each.attempts for each in found} == {0}
        assert {each.sender for each in found} == {rabbitmq_vhost.user("auth")}
    finally:
        await other.close()
        await bus.close()
