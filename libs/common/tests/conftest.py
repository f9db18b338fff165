"""Fixtures of libs/common: the sample service's database, and a bus of each adapter."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import text

from memepool_common.db import Database
from memepool_common.events.bus import Bus
from memepool_common.events.inprocess import InProcessBus, create_bus_tables
from memepool_common.settings import DatabaseSettings

SAMPLE = "memepool_common.testing.sample"


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


@pytest.fixture(params=["inprocess"])
def bus(request: pytest.FixtureRequest, bus_database: Database) -> Bus:
    """Each adapter of the bus; the conformance suite runs on all of them."""
    return InProcessBus(bus_database)


@pytest.fixture
def effects(database: Database) -> Callable[[], Awaitable[list[str]]]:
    """The effects that handlers left, sorted."""

    async def read() -> list[str]:
        async with database.read() as session:
            return list(
                (await session.execute(text("select name from effect order by 1"))).scalars()
            )

    return read
