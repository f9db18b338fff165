"""The audit log: who did what, from where, with what outcome. Append-only by database grant."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic.alias_generators import to_camel
from sqlalchemy import insert, select

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
    decode_cursor,
    encode_cursor,
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
    """Write a line, in the transaction of what it tells of.

    Args:
        session: the open transaction.
        actor_id: the user who did it; None for the system.
        account_id: whose account it concerns: that user reads it in their own feed.
        action: `<service>.<noun>.<verb>`.
        subject: the id of the thing.
        outcome: `done`, or a stable refusal code.
        address: the client's address, as far as it may be kept.
        details: more, without secrets.
    """
    row = {
        "at": datetime.now(UTC),
        "actor_id": actor_id,
        "account_id": account_id,
        "action": action,
        "subject": subject,
        "outcome": outcome,
        "address": address,
        "details": dict(details or {}),
    }
    await session.execute(insert(audit_log).values(row))


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
        items = [AuditEntry.model_validate({**row, "id": str(row["id"])}) for row in found[:limit]]
        more = len(found) > limit
        return Page(
            items=items, next_cursor=encode_cursor(found[limit - 1]["id"]) if more else None
        )

    router.add_api_route(
        f"/{service}/audit",
        read_audit,
        methods=["GET"],
        response_model=Page[AuditEntry],
        operation_id=to_camel(f"read_{service}_audit"),
        summary="The audit feed of your own account; admins read all of it",
    )
    return router
