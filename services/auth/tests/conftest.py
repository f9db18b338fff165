"""Auth as it runs: public and internal port over real HTTP, on a real PostgreSQL."""

import base64
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from memepool_auth.app import create_apps
from memepool_auth.settings import KeySettings, Settings, SignInSettings
from memepool_common.server import serving
from memepool_common.settings import AuthnSettings, DatabaseSettings
from memepool_common.testing import until
from memepool_common.web.app import Probes
from services.auth.tests.harness import Owner, Replica, Start, Wallet

ENCRYPTION_KEY = base64.b64encode(bytes(range(32))).decode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def database_settings(
    database_settings_for: Callable[..., DatabaseSettings],
) -> DatabaseSettings:
    return database_settings_for("auth")


@pytest.fixture
def admin_wallet() -> Wallet:
    """The wallet that the settings make the first admin."""
    return Wallet()


@pytest_asyncio.fixture
async def start(database_settings: DatabaseSettings, admin_wallet: Wallet) -> AsyncIterator[Start]:
    """`await start()`: another replica on the same database; keywords change sign-in settings."""
    async with contextlib.AsyncExitStack() as stack:

        async def start_replica(**sign_in: Any) -> Replica:
            internal_port = free_port()
            internal_url = f"http://127.0.0.1:{internal_port}"
            given = {
                "domain": "memepool.test",
                "network": "regtest",
                "first_admin": admin_wallet.address,
            }
            settings = Settings(
                database=database_settings,
                authn=AuthnSettings(internal_url=internal_url),
                sign_in=SignInSettings.model_validate(given | sign_in),
                keys=KeySettings(encryption_key=SecretStr(ENCRYPTION_KEY)),
            )
            probes = Probes()
            public, inner = create_apps(settings, probes)
            await stack.enter_async_context(serving(inner, "127.0.0.1", internal_port))
            port = await stack.enter_async_context(serving(public, "127.0.0.1", 0))
            http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10)
            internal = httpx.AsyncClient(base_url=internal_url, timeout=10)
            await stack.enter_async_context(http)
            await stack.enter_async_context(internal)

            async def ready() -> bool:
                return (await internal.get("/readyz")).status_code == 200

            await until(ready)
            return Replica(http, internal, settings)

        yield start_replica


@pytest_asyncio.fixture
async def auth(start: Start) -> Replica:
    """One replica."""
    return await start()


@pytest_asyncio.fixture
async def as_owner(database_settings: DatabaseSettings) -> AsyncIterator[Owner]:
    """`await as_owner(sql, **given)`: one statement as the database's owner; its rows if any."""
    assert database_settings.owner_url is not None
    engine = create_async_engine(database_settings.owner_url.get_secret_value())

    async def execute(statement: str, **given: Any) -> Any:
        async with engine.begin() as connection:
            result = await connection.execute(text(statement), given)
            return result.all() if result.returns_rows else None

    yield execute
    await engine.dispose()
