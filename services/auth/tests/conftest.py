"""Auth as it runs: public and internal port over real HTTP, on a real PostgreSQL."""

import base64
import contextlib
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
from memepool_sandbox.ports import free_ports
from services.auth.tests.harness import Owner, Replica, Start, Wallet

ENCRYPTION_KEY = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture(scope="module")
def admin_wallet() -> Wallet:
    """The wallet that the settings make the first admin."""
    return Wallet()


@pytest.fixture
def database_settings(
    database_settings_for: Callable[..., DatabaseSettings],
) -> DatabaseSettings:
    """A database of the test's own, with as much time as a busy machine may need."""
    limits = ("pool_timeout_s", "statement_timeout_s", "lock_timeout_s")
    times = dict.fromkeys((*limits, "idle_in_transaction_timeout_s"), 120.0)
    return database_settings_for("auth").model_copy(update=times)


@contextlib.asynccontextmanager
async def running(database: DatabaseSettings, sign_in: dict[str, Any]) -> AsyncIterator[Replica]:
    """One replica on this database; `sign_in` changes the sign-in settings."""
    (internal_port,) = free_ports(1)
    internal_url = f"http://127.0.0.1:{internal_port}"
    settings = Settings(
        database=database,
        authn=AuthnSettings(internal_url=internal_url, stale_after_s=60),
        sign_in=SignInSettings.model_validate(
            {"domain": "memepool.test", "network": "regtest", **sign_in}
        ),
        keys=KeySettings(encryption_key=SecretStr(ENCRYPTION_KEY)),
    )
    probes = Probes()
    public, inner = create_apps(settings, probes)
    async with (
        serving(inner, "127.0.0.1", internal_port),
        serving(public, "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http,
        httpx.AsyncClient(base_url=internal_url, timeout=30) as internal,
    ):

        async def ready() -> bool:
            return (await internal.get("/readyz")).status_code == 200

        await until(ready)
        yield Replica(http, internal, settings)


@pytest_asyncio.fixture(loop_scope="module")
async def start(database_settings: DatabaseSettings, admin_wallet: Wallet) -> AsyncIterator[Start]:
    """`await start()`: another replica on the test's own database."""
    async with contextlib.AsyncExitStack() as stack:

        async def start_replica(**sign_in: Any) -> Replica:
            given = {"first_admin": admin_wallet.address, **sign_in}
            return await stack.enter_async_context(running(database_settings, given))

        yield start_replica


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def auth(_databases: Any, admin_wallet: Wallet) -> AsyncIterator[Replica]:
    """One replica for all tests of a module, each with wallets of its own."""
    many = {"address_failures_free": 10_000, "challenges_per_address_max": 10_000}
    database = _databases.make("auth", "memepool_auth")
    async with running(database, {"first_admin": admin_wallet.address, **many}) as replica:
        yield replica


@pytest_asyncio.fixture(loop_scope="module")
async def as_owner(request: pytest.FixtureRequest) -> AsyncIterator[Owner]:
    """`await as_owner(sql, **given)`: one statement as the database's owner; its rows if any.

    The database is the test's own where it has one, else the module's.
    """
    own = "database_settings" in request.fixturenames
    name = "database_settings" if own else "auth"
    found = request.getfixturevalue(name)
    database = found if own else found.settings.database
    engine = create_async_engine(database.owner_url.get_secret_value())

    async def execute(statement: str, **given: Any) -> Any:
        async with engine.begin() as connection:
            result = await connection.execute(text(statement), given)
            return result.all() if result.returns_rows else None

    yield execute
    await engine.dispose()
