"""A header store on a real PostgreSQL, used as the application role that services use."""

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from psycopg import Connection, sql
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from memepool_chain.headerstore import GRANTS, create_table
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
