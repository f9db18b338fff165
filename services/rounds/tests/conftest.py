"""Rounds on a real PostgreSQL, and its API over real HTTP."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from memepool_common.db import Database
from memepool_common.server import serving
from memepool_common.settings import AuthnSettings, DatabaseSettings
from memepool_common.testing import TestIssuer, stub_auth, until
from memepool_common.web.app import Probes
from memepool_rounds.app import create_apps
from memepool_rounds.settings import ChainSettings, Settings, WaitSettings
from services.rounds.tests.harness import World
from services.rounds.tests.http import Api


@pytest.fixture
def database_settings(
    database_settings_for: Callable[..., DatabaseSettings],
) -> DatabaseSettings:
    return database_settings_for("rounds")


@pytest_asyncio.fixture
async def world(database_settings: DatabaseSettings) -> AsyncIterator[World]:
    """Rounds that have followed a chain from block 90 to block 100, with round 100 open."""
    world = World(Database.connect(database_settings))
    world.source.mine(100)
    await world.follower.poll()
    yield world
    await world.database.close()


@pytest_asyncio.fixture
async def as_owner(
    database_settings: DatabaseSettings,
) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """`await as_owner(sql)`: one statement as the database's owner."""
    assert database_settings.owner_url is not None
    engine = create_async_engine(database_settings.owner_url.get_secret_value())

    async def execute(statement: str) -> None:
        async with engine.begin() as connection:
            await connection.execute(text(statement))

    yield execute
    await engine.dispose()


@pytest_asyncio.fixture
async def api(
    world: World,
    database_settings: DatabaseSettings,
    as_owner: Callable[[str], Awaitable[None]],
) -> AsyncIterator[Api]:
    """The API process beside that world."""
    issuer = TestIssuer()
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(stub_auth(issuer))
        settings = Settings(
            database=database_settings,
            authn=AuthnSettings(internal_url=url, stale_after_s=60),
            chain=ChainSettings(network="regtest"),
            wait=WaitSettings(projection_s_max=0.5),
        )
        probes = Probes()
        public, _ = create_apps(settings, probes)
        port = await stack.enter_async_context(serving(public, "127.0.0.1", 0))

        async def ready() -> bool:
            return not await probes.failures()

        await until(ready)
        client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            timeout=30,
            limits=httpx.Limits(max_connections=300),
        )
        await stack.enter_async_context(client)
        yield Api(client, world, issuer, as_owner)
