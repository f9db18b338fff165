"""The in-process bus: durable queues in a PostgreSQL database, one process around them.

It keeps a broker's promises: a published message is in every bound queue or in none, it stays
until it is acknowledged, and a consumer that fails holds up nobody else.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence

from sqlalchemy import create_engine, text

from memepool_common.db import Database, run
from memepool_common.events.bus import UNROUTED_QUEUE, Delivery, Message, Topology
from memepool_common.events.errors import is_infrastructure
from memepool_common.pausing import pause

LEASE_S = 300
POLL_INTERVAL_S = 0.5

_SCHEMA = """
create table if not exists bus_message (
  id bigint generated always as identity primary key,
  queue text not null,
  message_id uuid not null,
  routing_key text not null,
  headers jsonb not null,
  body bytea not null,
  attempts int not null default 0,
  available_at timestamptz not null default now(),
  leased_until timestamptz,
  dead_at timestamptz,
  reason text
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
create index if not exists bus_message_due on bus_message (queue, id) where dead_at is null;
"""

_PUBLISH = text(
    "insert into bus_message (queue, message_id, routing_key, headers, body)"
    " values (:queue, :message_id, :routing_key, cast(:headers as jsonb), :body)"
)
# Materialized, or a plan that runs the limit several times leases more than it says.
_RECEIVE = (
    "with due as materialized (select id from bus_message where queue = %s and dead_at is null"
    "   and available_at <= now() and (leased_until is null or leased_until < now())"
    "   order by id limit %s for update skip locked)"
    " update bus_message m set leased_until = now() + make_interval(secs => %s)"
    " from due where m.id = due.id"
    " returning m.id, m.message_id, m.routing_key, m.headers, m.body, m.attempts"
)
_ACK = "delete from bus_message where id = any(%s)"
_RELEASE = "update bus_message set leased_until = null where id = any(%s)"
_FORGET_LEASES = "update bus_message set leased_until = null where leased_until is not null"
_RETRY = (
    "update bus_message set attempts = attempts + 1, leased_until = null,"
    " available_at = now() + make_interval(secs => %s) where id = %s"
)
_DEAD = "update bus_message set dead_at = now(), leased_until = null, reason = %s where id = %s"


def create_bus_tables(owner_url: str, app_role: str) -> None:
    """Make the queue table in the bus's database. Idempotent; blocks."""
    engine = create_engine(owner_url)
    with engine.begin() as connection:
        connection.execute(text(_SCHEMA))
        connection.execute(
            text(f'grant select, insert, update, delete on bus_message to "{app_role}"')
        )
    engine.dispose()


class InProcessBus:
    """The `Bus` of one-process mode."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queues: dict[str, list[str]] = {}
        self._arrived: dict[str, asyncio.Event] = {}

    async def declare(self, topology: Topology) -> None:
        """Bind the queues. Leases of a process that was killed are void: there is only one."""
        self._queues = {}
        for queue, keys in topology.items():
            self._arrived[queue] = asyncio.Event()
            for key in keys:
                self._queues.setdefault(key, []).append(queue)
        async with self._database.statement() as session:
            await run(session, _FORGET_LEASES)

    async def publish(self, messages: Sequence[Message]) -> Sequence[Exception | None]:
        """Put each message into every queue bound to its key, all in one transaction."""
        rows = [
            {
                "queue": queue,
                "message_id": message.id,
                "routing_key": message.routing_key,
                "headers": json.dumps(dict(message.headers)),
                "body": message.body,
            }
            for message in messages
            for queue in self._queues.get(message.routing_key, [UNROUTED_QUEUE])
        ]
        try:
            async with self._database.transaction() as session:
                await session.execute(_PUBLISH, rows)
        except Exception as error:
            if not is_infrastructure(error):
                raise
            return [error] * len(messages)
        for queue in {row["queue"] for row in rows}:
            if queue in self._arrived:
                self._arrived[queue].set()
        return [None] * len(messages)

    @contextlib.asynccontextmanager
    async def subscribe(self, queue: str) -> AsyncIterator["_QueueInlet"]:
        """Consume a declared queue."""
        inlet = _QueueInlet(self._database, queue, self._arrived[queue])
        try:
            yield inlet
        finally:
            await inlet.release()


class _QueueInlet:
    def __init__(self, database: Database, queue: str, arrived: asyncio.Event) -> None:
        self._database = database
        self._queue = queue
        self._arrived = arrived
        self._unsettled: set[int] = set()
        self._next_look_s = 0.0

    async def receive(self, size_max: int, timeout_s: float) -> Sequence[Delivery]:
        """What is told to have arrived is looked for at once, what is due again from time to time:
        twenty idle queues that each asked whenever they are asked would keep PostgreSQL busy."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while True:
            left_s = min(deadline_s, self._next_look_s) - loop.time()
            await pause(self._arrived, left_s)
            look = self._arrived.is_set() or loop.time() >= self._next_look_s
            if look and (due := await self._due(size_max)):
                return due
            if loop.time() >= deadline_s:
                return []

    async def _due(self, size_max: int) -> Sequence[Delivery]:
        self._arrived.clear()
        async with self._database.statement() as session:
            found = await run(session, _RECEIVE, (self._queue, size_max, LEASE_S))
        if found:
            self._arrived.set()  # there may be more
        self._next_look_s = asyncio.get_running_loop().time() + POLL_INTERVAL_S
        self._unsettled.update(row.id for row in found)
        return [
            Delivery(
                Message(row.message_id, row.routing_key, row.headers, bytes(row.body)),
                row.attempts,
                row.id,
            )
            for row in sorted(found, key=lambda row: row.id)
        ]

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        ids = [delivery.tag for delivery in deliveries]
        async with self._database.statement() as session:
            await run(session, _ACK, (ids,))
        self._unsettled.difference_update(ids)

    async def retry(self, delivery: Delivery, delay_s: float) -> None:
        async with self._database.statement() as session:
            await run(session, _RETRY, (delay_s, delivery.tag))
        self._unsettled.discard(delivery.tag)

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        async with self._database.statement() as session:
            await run(session, _DEAD, (reason, delivery.tag))
        self._unsettled.discard(delivery.tag)

    async def release(self) -> None:
        """Give back what was received and not settled."""
        if self._unsettled:
            with contextlib.suppress(Exception):
                async with self._database.statement() as session:
                    await run(session, _RELEASE, (sorted(self._unsettled),))
