"""Reward policies: all may read them, admins schedule them for future rounds."""

from datetime import UTC, datetime

from fastapi import APIRouter, Response

from memepool_common import audit
from memepool_common.db import Session
from memepool_common.tokens import Principal
from memepool_common.web.deps import AdminCaller, IdempotencyKey, ReadSessionDep, SessionDep
from memepool_common.web.idempotency import once
from memepool_common.web.model import (
    PAGE_SIZE_DEFAULT,
    Cursor,
    Limit,
    Page,
    cut_page,
    decode_cursor,
)
from memepool_rounds.api.models import PolicyRequest, ScheduledPolicy
from memepool_rounds.domain.errors import InvalidPolicy, NoRoundYet, PolicyExists
from memepool_rounds.store import policies
from memepool_rounds.use_cases.rounds import open_round

router = APIRouter(tags=["rounds"])


@router.get("/rounds/policies")
async def list_policies(
    session: ReadSessionDep, limit: Limit = PAGE_SIZE_DEFAULT, cursor: Cursor = None
) -> Page[ScheduledPolicy]:
    """All policies, the latest scheduled first."""
    below = decode_cursor(cursor, int)[0] if cursor is not None else None
    found = await policies.newest(session, below=below, limit=limit + 1)
    shown, more = cut_page(found, limit, lambda each: (each.seq,))
    return Page(items=[ScheduledPolicy.scheduled(each) for each in shown], next_cursor=more)


@router.post("/rounds/policies", status_code=201, response_model=ScheduledPolicy)
async def schedule_policy(
    body: PolicyRequest, caller: AdminCaller, session: SessionDep, key: IdempotencyKey = None
) -> Response:
    """Schedule a policy for future rounds; a round keeps the one that it opened with."""
    return await once(
        session,
        scope=str(caller.user_id),
        operation="schedulePolicy",
        key=key,
        request=body,
        status=201,
        act=lambda: _schedule(session, body, caller),
    )


async def _schedule(session: Session, body: PolicyRequest, caller: Principal) -> ScheduledPolicy:
    policy = body.policy()
    try:  # locked, or the next round might open with another one before this is committed
        first_height = (await open_round(session, " for share")).id + 1
    except NoRoundYet:
        first_height = 0
    from_height = first_height if body.from_height is None else body.from_height
    if from_height < first_height:
        detail = f"fromHeight: a policy is for future rounds, from height {first_height} on"
        raise InvalidPolicy(detail)
    stored = await policies.insert(session, policy, from_height, caller.user_id, datetime.now(UTC))
    if stored is None:
        raise PolicyExists(f"There is a policy {policy.id!r} already; policies never change.")
    await audit.record(
        session,
        actor_id=caller.user_id,
        account_id=None,
        action="rounds.policy.scheduled",
        subject=policy.id,
        details={"fromHeight": from_height},
    )
    return ScheduledPolicy.scheduled(stored)
