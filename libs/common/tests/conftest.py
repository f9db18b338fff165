"""Fixtures of libs/common: the sample service's database, and a bus of each adapter."""

from collections.abc import AsyncIterator, Awaitable, Callable

import aio_pika
import pytest
from sqlalchemy import text

from memepool_common.db import Database
from memepool_common.events.rabbitmq import RabbitBus
from memepool_common.events.rabbitmq_topology import dead_queue
from memepool_common.settings import DatabaseSettings
from memepool_common.testing import CountedBus
from memepool_sandbox.inprocess_bus import InProcessBus, create_bus_tables
from memepool_sandbox.testing.rabbitmq import Vhost

SAMPLE = "memepool_common.testing.sample"
DeadLetters = Callable[[str], Awaitable[list[tuple[str, int]]]]


@pytest.fixture
async def database(database_for: Callable[..., Awaitable[Database]]) -> Database:
    """The sample service's database, as its application role."""
    return await database_for("sample", SAMPLE)


@pytest.fixture
async def bus_database(
    database_settings_for: Callable[..., DatabaseSettings],
) -> AsyncIterator[Database]:
    """The database of the in-process bus."""
    settings = database_settings_for("bus", SAMPLE)
    assert settings.owner_url is not None
    create_bus_tables(settings.owner_url.get_secret_value(), settings.app_role)
    database = Database.connect(settings)
    yield database
    await database.close()


@pytest.fixture
async def rabbit_bus(rabbitmq_vhost: Vhost) -> AsyncIterator[RabbitBus]:
    """The bus on a real RabbitMQ, as the sample service's user."""
    bus = RabbitBus(rabbitmq_vhost.url("sample"), name="test")
    yield bus
    await bus.close()


@pytest.fixture
def dead_letters_of(rabbitmq_vhost: Vhost) -> DeadLetters:
    """Reason and attempts of what was put aside from a queue of RabbitMQ's, once only."""

    async def read(queue: str) -> list[tuple[str, int]]:
        found = []
        async with await aio_pika.connect(rabbitmq_vhost.url("sample")) as connection:
            channel = await connection.channel()
            dead = await channel.get_queue(dead_queue(queue))
            while (message := await dead.get(fail=False)) is not None:
                notes = message.headers
                found.append((str(notes["x-error"]), int(str(notes["x-attempts"]))))
        return found

    return read


@pytest.fixture(params=["inprocess", "rabbitmq"])
def adapter(request: pytest.FixtureRequest) -> InProcessBus | RabbitBus:
    """Each adapter of the bus; the conformance suite runs on all of them."""
    if request.param == "inprocess":
        return InProcessBus(request.getfixturevalue("bus_database"))
    bus: RabbitBus = request.getfixturevalue("rabbit_bus")
    return bus


@pytest.fixture
def bus(adapter: InProcessBus | RabbitBus) -> CountedBus:
    """The adapter, with a count of what is still to be settled."""
    return CountedBus(adapter)


@pytest.fixture
def dead_letters(adapter: InProcessBus | RabbitBus, request: pytest.FixtureRequest) -> DeadLetters:
    """Reason and attempts of what a queue's consumer put aside."""

    async def in_process(queue: str) -> list[tuple[str, int]]:
        database: Database = request.getfixturevalue("bus_database")
        query = text(
            "select reason, attempts from bus_message where queue = :queue and dead_at is not null"
        )
        async with database.read() as session:
            rows = (await session.execute(query, {"queue": queue})).all()
        return [(row.reason, row.attempts) for row in rows]

    if isinstance(adapter, InProcessBus):
        return in_process
    of_rabbitmq: DeadLetters = request.getfixturevalue("dead_letters_of")
    return of_rabbitmq


@pytest.fixture
def effects(database: Database) -> Callable[[], Awaitable[list[str]]]:
    """The effects that handlers left, sorted."""

    async def read() -> list[str]:
        async with database.read() as session:
            return list(
                (await session.execute(text("select name from effect order by 1"))).scalars()
            )

    return read
