"""A header store on a real PostgreSQL, as the application role of a service; a source over HTTP."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from psycopg import Connection, sql
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from memepool_chain.headerstore import GRANTS, Checkpoint, create_table, initialize
from memepool_chain.network import REGTEST
from memepool_chain.testing.headerstore import Store
from memepool_chain.testing.whatsonchain import Source
from memepool_chain.whatsonchain import RetryPolicy, WhatsOnChain
from memepool_sandbox.postgres import PostgresServer, provision


class _Op:
    """Alembic's `op`, as far as `create_table` knows it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execute(self, sqltext: str) -> None:
        self._connection.execute(sql.SQL(sqltext))


@pytest.fixture(scope="session")
def _database(postgres_server: PostgresServer) -> Iterator[str]:
    database = f"test_headerstore_{secrets.token_hex(4)}"
    provision(postgres_server, "chain", database=database)
    with postgres_server.administer(database) as connection:
        connection.execute("set role chain_owner")
        create_table(_Op(connection))
        for table, privileges in GRANTS.items():
            grant = sql.SQL("grant {} on {} to chain_app")
            connection.execute(grant.format(sql.SQL(privileges), sql.Identifier(table)))
    yield database
    with postgres_server.administer() as admin:
        admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(database)))


@pytest_asyncio.fixture
async def engine(_database: str, postgres_server: PostgresServer) -> AsyncIterator[AsyncEngine]:
    """A store without a checkpoint."""
    engine = create_async_engine(postgres_server.url(_database, "chain_app"), pool_size=4)
    yield engine
    await engine.dispose()
    with postgres_server.administer(_database) as admin:
        admin.execute("truncate chain_tip, chain_header")


@pytest.fixture
def source() -> Source:
    """What the simulated WhatsOnChain is told to answer."""
    return Source()


@pytest_asyncio.fixture
async def base_url(source: Source) -> AsyncIterator[str]:
    """Where it answers."""
    server = await asyncio.start_server(source.serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/bsv"


@pytest_asyncio.fixture
async def client(base_url: str) -> AsyncIterator[WhatsOnChain]:
    """A client that does not dawdle."""
    retry = RetryPolicy(attempts=3, wait_initial_s=0.001)
    async with WhatsOnChain(base_url, rate_per_s=10_000, timeout_s=5, retry=retry) as client:
        yield client


@pytest_asyncio.fixture
async def store(engine: AsyncEngine) -> Store:
    """A regtest store that holds the first block."""
    async with engine.begin() as session:
        await initialize(session, Checkpoint.genesis(REGTEST))
    return Store(engine)
