"""Gives a queue its dead letters back, once what killed them is mended."""

from memepool_common.events import rabbitmq_topology as layout
from memepool_common.events.rabbitmq import RabbitBus

DELAY_S = 5.0
"""Longer than we wait for more, so that one which dies again at once is not taken up again."""
IDLE_S = 1.0
BATCH_MAX = 256


async def replay_dead_letters(bus: RabbitBus, queue: str) -> int:
    """Send what lies in the dead-letter queue to `queue` again, with all its attempts before it.

    Each leaves the dead letters only when the broker has the copy, so a failure halfway may repeat
    some: the inbox drops those. Returns how many were sent.

    Raises:
        BusUnavailableError: the broker is away, or refuses.
    """
    count = 0
    async with bus.subscribe(layout.dead_queue(queue)) as inlet:
        while received := await inlet.receive(BATCH_MAX, IDLE_S):
            copies = [
                (
                    layout.RETRY_EXCHANGE,
                    layout.retry_key(queue, DELAY_S),
                    bus.properties(
                        each.message,
                        {
                            "x-attempts": 0,
                            "x-routing-key": each.message.routing_key,
                            "x-sender": each.sender or "",
                        },
                    ),
                    each.message.body,
                )
                for each in received
            ]
            for error in await bus.send(copies):
                if error is not None:
                    raise error
            await inlet.ack(received)
            count += len(received)
    return count
