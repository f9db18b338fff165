"""Fixtures of the whole suite: a real PostgreSQL, and a fresh database for each test that asks.

The server is one from the wheel per test process, or `MEMEPOOL_TEST_POSTGRES`, a superuser's
address. A service's migrations run once per process, into a template that each database copies.
"""

import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import hypothesis
import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from pydantic import SecretStr

from memepool_common import telemetry
from memepool_common.db import Database
from memepool_common.migrations import migrate
from memepool_common.settings import DatabaseSettings, TelemetrySettings
from memepool_sandbox.postgres import PostgresServer, provision, start_postgres

pytest_plugins = ("memepool_sandbox.testing.rabbitmq", "memepool_sandbox.testing.redis")

CONNECTIONS_PER_TEST_DATABASE = 5
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own in it
MEMORY_FREE_MIN = 4 * 2**30

# No deadline: a slow machine is not a bug. In CI the same examples each time, elsewhere new ones.
hypothesis.settings.register_profile("memepool", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("memepool")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests under a `unit` folder have no network at all, not even this machine's own."""
    for item in items:
        if "unit" in Path(item.path).parts:
            item.add_marker(pytest.mark.disable_socket)


@pytest.fixture(scope="session", autouse=True)
def _quiet_logs() -> None:
    """Only what somebody should look at."""
    telemetry.setup("tests", TelemetrySettings(log_level="WARNING", log_json=False))


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A running server; what survives a crash of the machine is not asked of it."""
    given = os.environ.get("MEMEPOOL_TEST_POSTGRES")
    if given:
        yield PostgresServer.at(given)
    else:
        with (
            _cluster_folder(tmp_path_factory) as folder,
            start_postgres(folder, fsync=False) as server,
        ):
            yield server


@contextmanager
def _cluster_folder(factory: pytest.TempPathFactory) -> Iterator[Path]:
    """In memory where there is room: a template's four hundred files are copied ten times as fast
    there as on a disk. What a killed process has left in it goes first."""
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_FREE_MIN:
        for left in MEMORY.glob("memepool-tests-*"):
            if not Path("/proc", left.name.split("-")[2]).exists():
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"memepool-tests-{os.getpid()}-", dir=MEMORY))
    else:
        folder = factory.mktemp("postgres")
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


_COPY = (
    "create database {name} owner {owner} template {template} strategy file_copy",
    "revoke all on database {name} from public",
    "grant connect on database {name} to {app}",
)


class _Databases:
    """Makes databases for services by copying migrated templates, and drops them all."""

    def __init__(self, server: PostgresServer, admin: psycopg.Connection) -> None:
        self._server = server
        self._admin = admin
        self._prefix = secrets.token_hex(4)  # several test processes may share a server
        self._numbers = itertools.count()
        self._templates: dict[tuple[str, str], str] = {}
        self.made: list[str] = []

    def make(self, service: str, package: str) -> DatabaseSettings:
        template = self._templates.get((service, package))
        if template is None:
            template = self._name(service)
            provision(self._server, service, database=template)
            migrate(package, self._server.url(template, f"{service}_owner"), f"{service}_app")
            self._templates[service, package] = template
        name = self._name(service)
        names = {"name": name, "owner": f"{service}_owner", "app": f"{service}_app"}
        names["template"] = template
        for statement in _COPY:  # what lies within the template is copied with its rights
            parts = {key: sql.Identifier(value) for key, value in names.items()}
            self._admin.execute(sql.SQL(statement).format(**parts))
        return DatabaseSettings(
            url=SecretStr(self._server.url(name, f"{service}_app")),
            owner_url=SecretStr(self._server.url(name, f"{service}_owner")),
            app_role=f"{service}_app",
            pool_size=CONNECTIONS_PER_TEST_DATABASE,
        )

    def _name(self, service: str) -> str:
        name = f"test_{self._prefix}_{service}_{next(self._numbers)}"
        self.made.append(name)
        return name

    def drop(self, names: list[str]) -> None:
        for name in names:
            statement = sql.SQL("drop database if exists {} with (force)")
            self._admin.execute(statement.format(sql.Identifier(name)))
            self.made.remove(name)


@pytest.fixture(scope="session")
def _databases(postgres_server: PostgresServer) -> Iterator[_Databases]:
    with postgres_server.administer() as admin:
        databases = _Databases(postgres_server, admin)
        yield databases
        databases.drop(list(databases.made))


@pytest.fixture
def database_settings_for(_databases: _Databases) -> Iterator[Callable[..., DatabaseSettings]]:
    """`database_settings_for("auth")`: settings of a fresh, migrated database with both roles.

    `package` names whose migrations run, where it is not `memepool_<service>`. Dropped afterwards.
    """
    made: list[str] = []

    def make(service: str, package: str | None = None) -> DatabaseSettings:
        settings = _databases.make(service, package or f"memepool_{service}")
        made.append(_databases.made[-1])
        return settings

    yield make
    _databases.drop(made)


@pytest_asyncio.fixture
async def database_for(
    database_settings_for: Callable[..., DatabaseSettings],
) -> AsyncIterator[Callable[..., Awaitable[Database]]]:
    """`await database_for("auth")`: such a database, open as the application role."""
    async with AsyncExitStack() as stack:

        async def open_database(service: str, package: str | None = None) -> Database:
            database = Database.connect(database_settings_for(service, package))
            stack.push_async_callback(database.close)
            return database

        yield open_database
