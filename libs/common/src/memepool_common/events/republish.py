"""Sends what a service has said to one queue again: a projection is rebuilt from the outboxes.

Only that queue hears it. Repeats are harmless, as everywhere: an inbox that has not been cleared
knows the events. So whoever is stopped halfway begins anew, or where the last progress line was.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import text

from memepool_common.db import Database
from memepool_common.events import rabbitmq_topology as layout
from memepool_common.events.envelope import to_message
from memepool_common.events.rabbitmq import NotRoutedError, RabbitBus

WINDOW = 500
"""Outbox rows looked at in one statement."""
BACKLOG_MAX = 2_000
"""Messages that may wait in the queue: its consumer sets the pace, not the broker's disk."""
PAUSE_S = 0.5
REFUSALS_MAX = 50
"""Times in a row that the broker may take nothing."""
PROGRESS_EVERY_ROWS = 10_000

_RANGE = text("""
select coalesce(min(seq), 1) as first, coalesce(max(seq), 0) as last from outbox
where occurred_at >= :since
""")
_ROWS = text("""
select seq, event_id, event_type, subject, version, audience, payload, traceparent, occurred_at
from outbox where seq between :first and :last and event_type <> all(:unwanted) order by seq
""")
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
log = structlog.get_logger(__name__)


async def republish(
    database: Database, bus: RabbitBus, source: str, queue: str, since: datetime | None = None
) -> int:
    """Send the events that `queue` is bound to, of all that stand in the outbox; how many.

    What is written meanwhile reaches the queue by itself. The broker tells which types the queue
    is bound to: it sends back the others.

    Args:
        database: of the service that published them.
        bus: as that service's user.
        source: `/` and the service's name.
        queue: of any service.
        since: leave out what was said before; None: from the start.

    Raises:
        LookupError: there is no such queue.
        BusUnavailableError: the broker is away, or takes nothing for a while.
    """
    async with database.read() as session:
        span = (await session.execute(_RANGE, {"since": since or _BEGINNING})).one()
    sent, unwanted = 0, set[str]()
    await bus.backlog(queue)
    for first in range(span.first, span.last + 1, WINDOW):
        last = min(first + WINDOW - 1, span.last)
        async with database.read() as session:
            given = {"first": first, "last": last, "unwanted": list(unwanted)}
            rows = (await session.execute(_ROWS, given)).all()
        if rows:
            await _room(bus, queue)
            sent += await _send(bus, source, queue, rows, unwanted)
        if rows and (first - span.first) % PROGRESS_EVERY_ROWS < WINDOW:
            log.info("republishing", queue=queue, sent=sent, until=str(rows[-1].occurred_at))
    return sent


async def _room(bus: RabbitBus, queue: str) -> None:
    """Return when the consumer has caught up; without one, never."""
    while True:
        waiting = await bus.backlog(queue)
        if waiting <= BACKLOG_MAX:
            return
        log.info("republish_waits_for_consumer", queue=queue, waiting=waiting)
        await asyncio.sleep(PAUSE_S)


async def _send(
    bus: RabbitBus, source: str, queue: str, rows: Sequence[Any], unwanted: set[str]
) -> int:
    """Send until the broker has every row that the queue wants; adds to `unwanted`."""
    sent = refusals = 0
    left = rows
    while left:
        outcomes = await bus.send([_publication(bus, source, queue, row) for row in left])
        settled = list(zip(left, outcomes, strict=True))
        unwanted |= {row.event_type for row, error in settled if isinstance(error, NotRoutedError)}
        taken = sum(error is None for error in outcomes)
        sent += taken
        left = [
            row for row, error in settled if error is not None and row.event_type not in unwanted
        ]
        refusals = 0 if taken else refusals + 1
        if left and refusals > REFUSALS_MAX:
            raise next(error for error in outcomes if error is not None)
        if left:
            await asyncio.sleep(PAUSE_S)
    return sent


def _publication(bus: RabbitBus, source: str, queue: str, row: Any) -> tuple[str, str, Any, bytes]:
    message = to_message(row, source)
    key = layout.republish_key(message.routing_key, queue)
    return layout.REPUBLISH_EXCHANGE, key, bus.properties(message), message.body
