"""Consumers: a batch of events, their inbox rows and their effects in one transaction, then ack.

Duplicates are dropped before the handler sees them. A batch that fails is split until the poison
stands alone; it alone is retried and at last put aside. Lost infrastructure pauses the consumer
and rejects nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import structlog
from psycopg.errors import IntegrityError
from sqlalchemy import text

from memepool_common import telemetry
from memepool_common.arrays import uuids
from memepool_common.db import Database, Session, Statement
from memepool_common.events.bus import Bus, Delivery, Inlet, InletLostError
from memepool_common.events.envelope import Event, NotAnEventError, from_message, require_sender
from memepool_common.events.errors import is_infrastructure, lacks_migration
from memepool_common.pausing import pause

RECEIVE_TIMEOUT_S = 0.25
"""Also how long a consumer that has nothing to do takes to stop, at the most."""
PAUSE_S_MAX = 10.0
SUBSCRIBE_INTERVAL_S = 1.0
"""Between attempts, while the broker is away."""
log = structlog.get_logger(__name__)

Handler = Callable[[Session, Sequence[Event]], Awaitable[None]]
StatementHandler = Callable[[Session | Statement, Sequence[Event]], Awaitable[None]]

# Sorted, so that two replicas given the same events lock them in the same order.
_RECORD_SQL = text(
    "insert into inbox (consumer, event_id)"
    " select :consumer, id from unnest(cast(:ids as uuid[])) as id order by id"
    " on conflict do nothing returning event_id"
)
# An event that was here before breaks the key, and the statement as a whole.
_NOTED = (
    "with noted as (insert into inbox (consumer, event_id)"
    " select %s, id from unnest(%b::uuid[]) as id returning event_id) "
)
_AFTER_NOTED = " from (select count(*) from noted) as before"


_LEFT = "inbox_rows_left"


class InboxRows(NamedTuple):
    """What a handler's only statement writes besides its own work: `before` and `after` it, with
    their `values`. Empty where the rows are written already."""

    before: str = ""
    after: str = ""
    values: tuple[Any, ...] = ()


def rows_in_sql(session: Session | Statement) -> InboxRows:
    """The inbox rows that the caller's statement, a `select`, is to write."""
    rows: InboxRows = session.info.pop(_LEFT, InboxRows())
    return rows


@dataclass(frozen=True)
class Subscription:
    """What a service consumes from one durable queue.

    Attributes:
        queue: its name, `<service>.<purpose>`.
        handlers: by event type; each gets fresh events of its type in the order of arrival.
        batch_max: events handled in one transaction at the most.
        retry_delays_s: waits before each further attempt at an event that fails by itself;
            after the last one it is dead-lettered.
        pace_s: the least time between the starts of two transactions, so that what comes in quick
            succession is handled together.
        one_statement: those handlers that are one statement, run by `db.run`, which writes
            `rows_in_sql`; it is then all of the transaction.
    """

    queue: str
    handlers: Mapping[str, Handler]
    batch_max: int = 256
    retry_delays_s: tuple[float, ...] = (1, 5, 30, 120)
    pace_s: float = 0.0
    one_statement: Mapping[str, StatementHandler] = field(default_factory=dict)

    @property
    def routing_keys(self) -> list[str]:
        """The bindings that the queue needs."""
        return sorted(name.removeprefix("memepool.") for name in self.handlers)


async def run_consumer(
    database: Database, bus: Bus, subscription: Subscription, stopping: asyncio.Event
) -> None:
    """Consume until `stopping` is set; what is in flight then is finished first."""
    consumer = _Consumer(database, subscription, stopping)
    paused = telemetry.CONSUMER_PAUSED.labels(subscription.queue)
    loop = asyncio.get_running_loop()
    next_start_s = loop.time()
    while not stopping.is_set():
        try:
            async with bus.subscribe(subscription.queue) as inlet:
                paused.set(0)
                while not stopping.is_set():
                    if (early_s := next_start_s - loop.time()) > 0:
                        await asyncio.sleep(early_s)
                    received = await inlet.receive(subscription.batch_max, RECEIVE_TIMEOUT_S)
                    next_start_s = loop.time() + subscription.pace_s
                    if received:
                        await consumer.work(inlet, received)
        except Exception as error:
            if is_infrastructure(error):
                paused.set(1)
                log.warning("consumer_paused", queue=subscription.queue, error=repr(error))
            else:
                telemetry.TASK_FAILURES.labels(subscription.queue).inc()
                log.exception("consumer_failed", queue=subscription.queue)
            await pause(stopping, SUBSCRIBE_INTERVAL_S)


class _Consumer:
    def __init__(
        self, database: Database, subscription: Subscription, stopping: asyncio.Event
    ) -> None:
        self.database = database
        self.subscription = subscription
        self.stopping = stopping

    async def work(self, inlet: Inlet, deliveries: Sequence[Delivery]) -> None:
        """Settle every delivery; told to stop while infrastructure is away, those that can be.

        What fails by itself is put aside last: what is well does not wait for room for it.
        """
        parsed: list[tuple[Delivery, Event]] = []
        failed: list[tuple[Delivery, Exception]] = []
        for delivery in deliveries:
            try:
                event = from_message(delivery.message)
                require_sender(event, delivery.sender)
                parsed.append((delivery, event))
            except NotAnEventError as error:
                failed.append((delivery, error))
        if parsed:
            await self._settle(inlet, parsed, failed)
        for delivery, reason in failed:
            await self._or_pause(partial(self._fail, inlet, delivery, reason))

    async def _settle(
        self,
        inlet: Inlet,
        batch: Sequence[tuple[Delivery, Event]],
        failed: list[tuple[Delivery, Exception]],
    ) -> None:
        try:
            if not await self._or_pause(partial(self._handle, [event for _, event in batch])):
                return
        except Exception as error:  # noqa: BLE001 - the poison is singled out and kept
            if len(batch) == 1:
                failed.append((batch[0][0], error))
                return
            middle = len(batch) // 2
            await self._settle(inlet, batch[:middle], failed)
            await self._settle(inlet, batch[middle:], failed)
            return
        await inlet.ack([delivery for delivery, _ in batch])
        telemetry.CONSUMED.labels(self.subscription.queue, "done").inc(len(batch))

    async def _or_pause(self, act: Callable[[], Awaitable[None]]) -> bool:
        """Act, waiting while infrastructure or a migration is away. False: told to stop.

        Raises:
            InletLostError: there is nothing to wait for.
        """
        paused = telemetry.CONSUMER_PAUSED.labels(self.subscription.queue)
        pause_s = 0.1
        while True:
            try:
                await act()
            except Exception as error:
                if isinstance(error, InletLostError):
                    raise
                if not (is_infrastructure(error) or lacks_migration(error)):
                    raise
                log.warning("consumer_paused", queue=self.subscription.queue, error=repr(error))
                paused.set(1)
                if self.stopping.is_set():
                    return False
                await pause(self.stopping, pause_s)
                pause_s = min(pause_s * 2, PAUSE_S_MAX)
            else:
                paused.set(0)
                return True

    async def _handle(self, events: Sequence[Event]) -> None:
        queue = self.subscription.queue
        with telemetry.consumer_span(queue, [event.traceparent for event in events]):
            if await self._handle_at_once(events):
                return
            async with self.database.transaction() as session:
                ids = [event.id for event in events]
                recorded = await session.execute(_RECORD_SQL, {"consumer": queue, "ids": ids})
                unseen = set(recorded.scalars())
                once = {event.id: event for event in reversed(events) if event.id in unseen}
                # By type, however they are mixed: nobody relies on an order between types.
                fresh: dict[str, list[Event]] = {}
                for event in reversed(once.values()):
                    fresh.setdefault(event.type, []).append(event)
                for event_type, run in fresh.items():
                    handler = self.subscription.handlers.get(event_type)
                    if handler is not None:
                        await handler(session, run)

    async def _handle_at_once(self, events: Sequence[Event]) -> bool:
        """Handle events of one type whose handler is one statement. False: there is none for them,
        or some have been here before."""
        event_type, *others = {event.type for event in events}
        handler = self.subscription.one_statement.get(event_type)
        if others or handler is None:
            return False
        ids = uuids(sorted(event.id for event in events))
        async with self.database.statement() as session:
            session.info[_LEFT] = InboxRows(_NOTED, _AFTER_NOTED, (self.subscription.queue, ids))
            try:
                await handler(session, events)
            except IntegrityError:
                return False
            finally:
                forgotten = session.info.pop(_LEFT, None)
        if forgotten is not None:
            raise AssertionError(f"the handler of {event_type} wrote no inbox rows")
        return True

    async def _fail(self, inlet: Inlet, delivery: Delivery, error: Exception) -> None:
        queue = self.subscription.queue
        delays_s = self.subscription.retry_delays_s
        told = {"queue": queue, "event_id": str(delivery.message.id)}
        if isinstance(error, NotAnEventError):
            reason = f"not an event: {error}"[:500]
        elif delivery.attempts < len(delays_s):
            await inlet.retry(delivery, delays_s[delivery.attempts])
            telemetry.CONSUMED.labels(queue, "retried").inc()
            log.warning("event_failed", **told, error=repr(error))
            return
        else:
            reason = repr(error)[:500]
        await inlet.dead_letter(delivery, reason)
        telemetry.CONSUMED.labels(queue, "dead_lettered").inc()
        log.error("event_dead_lettered", **told, type=delivery.message.routing_key, reason=reason)
