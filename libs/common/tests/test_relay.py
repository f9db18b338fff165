"""The relay against a broker that takes its time, or takes nothing."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Sequence

from prometheus_client import REGISTRY

from memepool_common.db import Database
from memepool_common.events import NewEvent, outbox, run_relay
from memepool_common.events.bus import Bus, Message
from memepool_common.events.envelope import PUBLIC
from memepool_common.events.relay import BATCHES_IN_FLIGHT_MAX
from memepool_common.testing import until
from memepool_common.web.model import WireModel

THING_HAPPENED = "memepool.sample.thing.happened.v1"
SOURCE = "/relay-test"


class Thing(WireModel):
    name: str


class Broker:
    """Says what came of each message once it is told to."""

    def __init__(self, outcome: Exception | None = None) -> None:
        self.outcome = outcome
        self.answering = asyncio.Event()
        self.sent: list[str] = []

    def has_sent(self, count: int) -> bool:
        return len(self.sent) == count

    async def publish(self, messages: Sequence[Message]) -> Sequence[Exception | None]:
        self.sent += [message.headers["ce-subject"] for message in messages]
        await self.answering.wait()
        return [self.outcome] * len(messages)


async def announce(database: Database, *names: str) -> None:
    async with database.transaction() as session:
        events = [NewEvent(THING_HAPPENED, name, Thing(name=name), PUBLIC) for name in names]
        await outbox.append(session, events)


@contextlib.asynccontextmanager
async def relaying(database: Database, broker: Broker) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    bus: Bus = broker  # type: ignore[assignment]  # all that a relay uses of it
    relay = asyncio.create_task(run_relay(database, bus, SOURCE, stopping))
    try:
        yield
    finally:
        broker.answering.set()
        stopping.set()
        await relay


async def test_a_few_batches_are_sent_before_the_first_is_answered_for(database: Database) -> None:
    broker = Broker()
    names = [str(number) for number in range(BATCHES_IN_FLIGHT_MAX)]
    async with relaying(database, broker):
        for number, name in enumerate(names, 1):
            await announce(database, name)
            await until(functools.partial(broker.has_sent, number))
        await announce(database, "one too many")
        assert broker.sent == names
        broker.answering.set()
        await until(lambda: len(broker.sent) > len(names))
    assert broker.sent == [*names, "one too many"]  # and nothing twice


async def test_what_waits_for_another_attempt_counts_as_unpublished(database: Database) -> None:
    broker = Broker(ConnectionError("away"))
    broker.answering.set()
    await announce(database, "a")
    async with relaying(database, broker):
        await until(lambda: len(broker.sent) > 1)  # it is tried again after a second
        age_s = REGISTRY.get_sample_value("memepool_outbox_oldest_seconds", {"source": SOURCE})
        assert age_s is not None
        assert age_s > 0
        broker.outcome = None

        def nothing_waits() -> bool:
            labels = {"source": SOURCE}
            return REGISTRY.get_sample_value("memepool_outbox_oldest_seconds", labels) == 0

        await until(nothing_waits)
