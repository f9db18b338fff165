"""The audit log: who did what, from where, with what outcome. Append-only by database grant."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from fastapi import APIRouter
from pydantic.alias_generators import to_camel
from sqlalchemy import select

from memepool_common.arrays import byteas, texts, uuids
from memepool_common.db import Session
from memepool_common.tables import audit_log
from memepool_common.web.deps import Caller, ReadSessionDep
from memepool_common.web.model import (
    PAGE_SIZE_DEFAULT,
    Cursor,
    Limit,
    Page,
    Timestamp,
    WireModel,
    cut_page,
    decode_cursor,
)

_RECORD = (
    "insert into audit_log (at, actor_id, account_id, action, subject, outcome, address, details)"
    " select %s::timestamptz, l.actor_id, l.account_id, l.action, l.subject, l.outcome, l.address,"
    " convert_from(l.details, 'UTF8')::jsonb"
    " from unnest(%b::uuid[], %b::uuid[], %b::text[], %b::text[], %b::text[], %b::text[],"
    " %b::bytea[]) as l(actor_id, account_id, action, subject, outcome, address, details)"
)


class AuditEntry(WireModel):
    """One line of the audit log."""

    id: str
    at: Timestamp
    actor_id: UUID | None
    account_id: UUID | None
    action: str
    subject: str
    outcome: str
    address: str | None
    details: dict[str, Any]


class Line(NamedTuple):
    """What somebody did.

    Attributes:
        actor_id: the user who did it; None for the system.
        account_id: whose account it concerns: that user reads it in their own feed.
        action: `<service>.<noun>.<verb>`.
        subject: the id of the thing.
        outcome: `done`, or a stable refusal code.
        address: the client's address, as far as it may be kept.
        details: more, without secrets.
    """

    actor_id: UUID | None
    account_id: UUID | None
    action: str
    subject: str
    outcome: str = "done"
    address: str | None = None
    details: Mapping[str, Any] = {}


async def record(
    session: Session,
    *,
    actor_id: UUID | None,
    account_id: UUID | None,
    action: str,
    subject: str,
    outcome: str = "done",
    address: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write a line, in the transaction of what it tells of."""
    line = Line(actor_id, account_id, action, subject, outcome, address, details or {})
    await record_all(session, [line])


async def record_all(session: Session, lines: Sequence[Line]) -> None:
    """Write lines, in the transaction of what they tell of."""
    if not lines:
        return
    actors, accounts, actions, subjects, outcomes, addresses, details = zip(*lines, strict=True)
    columns = (
        uuids(actors),
        uuids(accounts),
        *map(texts, (actions, subjects, outcomes, addresses)),
    )
    written = byteas([orjson.dumps(each, default=str) for each in details])
    await session.exec_driver_sql(_RECORD, (datetime.now(UTC), *columns, written))


def audit_router(service: str) -> APIRouter:
    """`GET /<service>/audit`: a user's own feed; all of it for an admin. Newest first."""
    router = APIRouter(tags=[service])

    async def read_audit(
        caller: Caller,
        session: ReadSessionDep,
        limit: Limit = PAGE_SIZE_DEFAULT,
        cursor: Cursor = None,
    ) -> Page[AuditEntry]:
        query = select(audit_log).order_by(audit_log.c.id.desc()).limit(limit + 1)
        if caller.role != "admin":
            query = query.where(audit_log.c.account_id == caller.user_id)
        if cursor is not None:
            (before,) = decode_cursor(cursor, int)
            query = query.where(audit_log.c.id < before)
        found = (await session.execute(query)).mappings().all()
        shown, more = cut_page(found, limit, lambda row: (row["id"],))
        items = [AuditEntry.model_validate({**row, "id": str(row["id"])}) for row in shown]
        return Page(items=items, next_cursor=more)

    router.add_api_route(
        f"/{service}/audit",
        read_audit,
        methods=["GET"],
        response_model=Page[AuditEntry],
        operation_id=to_camel(f"read_{service}_audit"),
        summary="The audit feed of your own account; admins read all of it",
    )
    return router
