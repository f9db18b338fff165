"""The relay: takes committed events from the outbox to the bus, at least once, in order.

One is active per service, held by an advisory lock on its own connection; others stand by. Any
unpublished row is found however late its transaction committed, because the query asks for the
flag and not for a position. Rows stay in the outbox: it is the service's log.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import psycopg
import structlog
from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from memepool_common.db import OUTBOX_CHANNEL, Database
from memepool_common.events.bus import Bus
from memepool_common.events.envelope import to_message
from memepool_common.events.errors import is_infrastructure
from memepool_common.tables import outbox
from memepool_common.telemetry import OUTBOX_FAILED, OUTBOX_OLDEST_SECONDS, OUTBOX_PUBLISHED

BATCH_MAX = 200
POLL_INTERVAL_S = 1.0
STANDBY_INTERVAL_S = 2.0
BACKOFF_S_MAX = 60
_ADVISORY_LOCK = 7_221_002  # any constant: advisory locks are per database
log = structlog.get_logger(__name__)


async def run_relay(database: Database, bus: Bus, source: str, stopping: asyncio.Event) -> None:
    """Relay until `stopping` is set. `source` is the CloudEvents source, `/` and the service."""
    while not stopping.is_set():
        try:
            async with _leadership(database) as connection:
                if connection is None:
                    await _wait(stopping, STANDBY_INTERVAL_S)
                    continue
                await _lead(database, bus, source, connection, stopping)
        except Exception as error:
            if not is_infrastructure(error):
                log.exception("relay_failed", source=source)
            await _wait(stopping, POLL_INTERVAL_S)


async def relay_once(connection: AsyncConnection, bus: Bus, source: str) -> int:
    """Publish one batch of what is due; returns how many rows were looked at."""
    due = (
        await connection.execute(
            select(outbox)
            .where(outbox.c.published_at.is_(None), outbox.c.available_at <= func.now())
            .order_by(outbox.c.seq)
            .limit(BATCH_MAX)
        )
    ).all()
    if not due:
        OUTBOX_OLDEST_SECONDS.labels(source).set(0)
        return 0
    outcomes = await bus.publish([to_message(row, source) for row in due])
    await _mark(connection, source, due, outcomes)
    return len(due)


async def _mark(
    connection: AsyncConnection,
    source: str,
    rows: Sequence[Any],
    outcomes: Sequence[Exception | None],
) -> None:
    published = [row.seq for row, error in zip(rows, outcomes, strict=True) if error is None]
    failed = [(row, error) for row, error in zip(rows, outcomes, strict=True) if error is not None]
    if published:
        await connection.execute(
            update(outbox).where(outbox.c.seq.in_(published)).values(published_at=func.now())
        )
        OUTBOX_PUBLISHED.labels(source).inc(len(published))
    if failed:
        OUTBOX_FAILED.labels(source).inc(len(failed))
        log.warning("publish_failed", source=source, count=len(failed), error=repr(failed[0][1]))
        statement = (
            update(outbox)
            .where(outbox.c.seq == bindparam("row_seq"))
            .values(
                attempts=outbox.c.attempts + 1,
                available_at=func.now() + bindparam("backoff"),
                last_error=bindparam("error"),
            )
        )
        await connection.execute(
            statement,
            [
                {
                    "row_seq": row.seq,
                    "backoff": timedelta(seconds=min(2 ** min(row.attempts, 6), BACKOFF_S_MAX)),
                    "error": repr(error)[:500],
                }
                for row, error in failed
            ],
        )
    oldest = rows[0].occurred_at
    age = (await connection.execute(select(func.now() - oldest))).scalar_one()
    OUTBOX_OLDEST_SECONDS.labels(source).set(max(0.0, age.total_seconds()))


async def _lead(
    database: Database,
    bus: Bus,
    source: str,
    connection: AsyncConnection,
    stopping: asyncio.Event,
) -> None:
    """Publish while we hold the lock; its connection is the fence: if it fails, we stop."""
    wake = asyncio.Event()
    async with _listening(database, wake):
        while not stopping.is_set():
            wake.clear()
            count = await relay_once(connection, bus, source)
            if count < BATCH_MAX:
                await _wait(stopping, POLL_INTERVAL_S, wake)


@contextlib.asynccontextmanager
async def _leadership(database: Database) -> AsyncIterator[AsyncConnection | None]:
    async with database.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        taken = text(f"select pg_try_advisory_lock({_ADVISORY_LOCK})")
        if not (await connection.execute(taken)).scalar_one():
            yield None
            return
        try:
            yield connection
        finally:
            with contextlib.suppress(Exception):
                await connection.execute(text(f"select pg_advisory_unlock({_ADVISORY_LOCK})"))


@contextlib.asynccontextmanager
async def _listening(database: Database, wake: asyncio.Event) -> AsyncIterator[None]:
    """Set `wake` at each NOTIFY, on a connection of its own; polling alone would be enough."""
    url = database.settings.url.get_secret_value().replace("postgresql+psycopg://", "postgresql://")
    listener = await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=5)

    async def listen() -> None:
        await listener.execute(f"listen {OUTBOX_CHANNEL}")
        async for _ in listener.notifies():
            wake.set()

    task = asyncio.create_task(listen(), name="outbox-listener")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await listener.close()


async def _wait(stopping: asyncio.Event, seconds: float, wake: asyncio.Event | None = None) -> None:
    waiters = [asyncio.create_task(event.wait()) for event in (stopping, wake) if event]
    await asyncio.wait(waiters, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
