"""Wakes the worker when there is something to process; without it, polling would find it later."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import psycopg

from memepool_common.db import Database

CHANNEL = "content_jobs"


async def wake_worker(database: Database) -> None:
    """Call after the commit, and outside of any transaction: a NOTIFY locks the whole server."""
    with contextlib.suppress(Exception):
        async with database.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.exec_driver_sql(f"notify {CHANNEL}")


@contextlib.asynccontextmanager
async def woken(database: Database, wake: asyncio.Event) -> AsyncIterator[None]:
    """Set `wake` at every call of `wake_worker`, on a connection of its own."""
    url = database.settings.url.get_secret_value().replace("postgresql+psycopg://", "postgresql://")
    listener = await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=5)

    async def listen() -> None:
        await listener.execute(f"listen {CHANNEL}")
        async for _ in listener.notifies():
            wake.set()

    task = asyncio.create_task(listen(), name="processing-listener")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await listener.close()
