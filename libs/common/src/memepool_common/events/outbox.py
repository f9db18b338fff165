"""The outbox: events are written in the transaction of the change that they announce."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from memepool_common.arrays import bigints, byteas, texts, uuids
from memepool_common.db import Session, Statement, mark_outbox_written
from memepool_common.events.envelope import NewEvent, pack_data
from memepool_common.ids import uuid7
from memepool_common.telemetry import current_traceparent

_APPEND = (
    "insert into outbox (event_id, event_type, subject, version, audience, payload, traceparent,"
    " occurred_at) select e.*, %s::text, %s::timestamptz from unnest(%b::uuid[], %b::text[],"
    " %b::text[], %b::bigint[], %b::text[], %b::bytea[]) as e"
)


async def append(session: Session, events: Sequence[NewEvent]) -> None:
    """Announce these facts once the session's transaction has committed, in this order."""
    if not events:
        return
    values = (
        current_traceparent(),
        datetime.now(UTC),
        uuids([uuid7() for _ in events]),
        texts([event.type for event in events]),
        texts([event.subject for event in events]),
        bigints([event.version for event in events]),
        texts([event.audience for event in events]),
        byteas([pack_data(event.data) for event in events]),
    )
    await session.exec_driver_sql(_APPEND, values)
    mark_outbox_written(session)


def written_in_sql(session: Session | Statement, rows_max: int) -> dict[str, Any]:
    """What a statement needs whose SQL writes outbox rows itself: `event_ids`, enough for
    `rows_max` rows, and the `traceparent`. The relay is woken after the commit."""
    mark_outbox_written(session)
    ids = [uuid7() for _ in range(rows_max)]
    return {"event_ids": ids, "traceparent": current_traceparent()}
