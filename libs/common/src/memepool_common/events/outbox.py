"""The outbox: events are written in the transaction of the change that they announce."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import insert

from memepool_common.db import Session, mark_outbox_written
from memepool_common.events.envelope import NewEvent, pack_data
from memepool_common.ids import uuid7
from memepool_common.tables import outbox
from memepool_common.telemetry import current_traceparent


async def append(session: Session, events: Sequence[NewEvent]) -> None:
    """Announce these facts once the session's transaction has committed, in this order."""
    if not events:
        return
    traceparent = current_traceparent()
    occurred_at = datetime.now(UTC)
    rows = [
        {
            "event_id": uuid7(),
            "event_type": event.type,
            "subject": event.subject,
            "version": event.version,
            "audience": event.audience,
            "payload": pack_data(event.data),
            "traceparent": traceparent,
            "occurred_at": occurred_at,
        }
        for event in events
    ]
    await session.execute(insert(outbox), rows)
    mark_outbox_written(session)
