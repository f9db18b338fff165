"""The relay: takes committed events from the outbox to the bus, at least once, in order.

One is active per service, held by an advisory lock on its own connection; others stand by. While
the broker brings a batch to its disk, the next ones are already sent after it. Any unpublished row
is found however late its transaction committed, because the query asks for the flag and not for a
position. Rows stay in the outbox: it is the service's log.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
import structlog
from opentelemetry.instrumentation.utils import suppress_instrumentation
from psycopg.rows import namedtuple_row

from memepool_common.db import OUTBOX_CHANNEL, Database
from memepool_common.events.bus import Bus
from memepool_common.events.envelope import to_message
from memepool_common.events.errors import is_infrastructure
from memepool_common.telemetry import OUTBOX_FAILED, OUTBOX_OLDEST_SECONDS, OUTBOX_PUBLISHED

BATCH_MAX = 500
BATCHES_IN_FLIGHT_MAX = 4
POLL_INTERVAL_S = 1.0
STANDBY_INTERVAL_S = 2.0
_ADVISORY_LOCK = 7_221_002  # any constant: advisory locks are per database

_DUE = """
select seq, event_id, event_type, subject, version, audience, payload, traceparent, occurred_at
from outbox where published_at is null and available_at <= now() and seq <> all(%s::bigint[])
order by seq limit %s
"""
_OLDEST = "select occurred_at from outbox where published_at is null order by seq limit 1"
_PUBLISHED = "update outbox set published_at = now() where seq = any(%s)"
_FAILED = """
update outbox set attempts = attempts + 1, last_error = failed.error,
  available_at = now() + make_interval(secs => least(2 ^ least(attempts, 6), 60))
from unnest(%s::bigint[], %s::text[]) as failed (seq, error) where outbox.seq = failed.seq
"""
log = structlog.get_logger(__name__)


async def run_relay(database: Database, bus: Bus, source: str, stopping: asyncio.Event) -> None:
    """Relay until `stopping` is set. `source` is the CloudEvents source, `/` and the service."""
    while not stopping.is_set():
        try:
            with suppress_instrumentation():  # what it does is in nobody's trace
                async with _leadership(database) as connection:
                    if connection is None:
                        await _wait(stopping, STANDBY_INTERVAL_S)
                        continue
                    await _lead(database, bus, source, connection, stopping)
        except Exception as error:
            if not is_infrastructure(error):
                log.exception("relay_failed", source=source)
            await _wait(stopping, POLL_INTERVAL_S)


async def _due(connection: psycopg.AsyncConnection[Any], but_not: Sequence[int]) -> Sequence[Any]:
    """The next rows to be published."""
    async with connection.cursor(binary=True, row_factory=namedtuple_row) as cursor:
        await cursor.execute(_DUE, [but_not, BATCH_MAX])
        return await cursor.fetchall()


async def _note_age(connection: psycopg.AsyncConnection[Any], source: str) -> None:
    """Also of what waits for another attempt: with the broker away, that is all there is."""
    row = await (await connection.execute(_OLDEST)).fetchone()
    age_s = (datetime.now(UTC) - row[0]).total_seconds() if row else 0.0
    OUTBOX_OLDEST_SECONDS.labels(source).set(max(0.0, age_s))


async def _mark(
    connection: psycopg.AsyncConnection[Any],
    source: str,
    rows: Sequence[Any],
    outcomes: Sequence[Exception | None],
) -> None:
    published = [row.seq for row, error in zip(rows, outcomes, strict=True) if error is None]
    failed = [(row.seq, error) for row, error in zip(rows, outcomes, strict=True) if error]
    if published:
        await connection.execute(_PUBLISHED, [published])
        OUTBOX_PUBLISHED.labels(source).inc(len(published))
    if failed:
        OUTBOX_FAILED.labels(source).inc(len(failed))
        log.warning("publish_failed", source=source, count=len(failed), error=repr(failed[0][1]))
        errors = [repr(error)[:500] for _, error in failed]
        await connection.execute(_FAILED, [[seq for seq, _ in failed], errors])


async def _lead(
    database: Database,
    bus: Bus,
    source: str,
    connection: psycopg.AsyncConnection[Any],
    stopping: asyncio.Event,
) -> None:
    """Publish while we hold the lock; its connection is the fence: if it fails, we stop."""
    wake = asyncio.Event()
    room = asyncio.Semaphore(BATCHES_IN_FLIGHT_MAX)
    unanswered: set[int] = set()
    loop = asyncio.get_running_loop()
    next_look_s = loop.time()

    async def publish(due: Sequence[Any]) -> None:
        outcomes = await bus.publish([to_message(row, source) for row in due])
        await _mark(connection, source, due, outcomes)
        unanswered.difference_update(row.seq for row in due)
        room.release()

    async with database.listening(OUTBOX_CHANNEL, wake), asyncio.TaskGroup() as flight:
        database.relay_wake = wake
        try:
            while not stopping.is_set():
                wake.clear()
                await room.acquire()
                if loop.time() >= next_look_s:
                    await _note_age(connection, source)
                    next_look_s = loop.time() + POLL_INTERVAL_S
                due = await _due(connection, list(unanswered))
                if due:
                    unanswered.update(row.seq for row in due)
                    flight.create_task(publish(due))
                else:
                    room.release()
                if len(due) < BATCH_MAX:
                    await _wait(stopping, POLL_INTERVAL_S, wake)
        finally:
            database.relay_wake = None


@contextlib.asynccontextmanager
async def _leadership(
    database: Database,
) -> AsyncIterator[psycopg.AsyncConnection[Any] | None]:
    """A connection of our own that holds the lock, or None when somebody else does.

    It does not wait for the disk: a mark that is lost with the server is a row published twice.
    """
    timeout_ms = int(database.settings.statement_timeout_s * 1000)
    options = f"-c synchronous_commit=off -c statement_timeout={timeout_ms}"
    connection = await database.connect_alone(options)
    try:
        taken = await connection.execute(f"select pg_try_advisory_lock({_ADVISORY_LOCK})")
        (is_leader,) = await taken.fetchone() or (False,)
        yield connection if is_leader else None
    finally:
        await connection.close()


async def _wait(stopping: asyncio.Event, seconds: float, wake: asyncio.Event | None = None) -> None:
    waiters = [asyncio.create_task(event.wait()) for event in (stopping, wake) if event]
    await asyncio.wait(waiters, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
