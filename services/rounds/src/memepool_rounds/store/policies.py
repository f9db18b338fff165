"""Reward policies and from which height on rounds open with them."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson
from sqlalchemy import text

from memepool_common.db import Session
from memepool_rounds.domain.policy import Policy, policy_of


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy for rounds that open at `from_height` or later; the latest scheduled one wins."""

    seq: int
    policy: Policy
    from_height: int
    created_at: datetime


async def for_height(session: Session, height: int) -> Policy:
    """The policy of a round that opens at this height. The first migration brought one for all."""
    query = text(
        "select document from policy where from_height <= :height"
        " order by from_height desc, seq desc limit 1"
    )
    return policy_of((await session.execute(query, {"height": height})).scalar_one())


async def insert(
    session: Session, policy: Policy, from_height: int, created_by: UUID, now: datetime
) -> StoredPolicy | None:
    """Schedule a policy; None if its id is taken."""
    query = text(
        "insert into policy (id, document, from_height, created_by, created_at)"
        " values (:id, cast(:document as jsonb), :from_height, :created_by, :now)"
        " on conflict (id) do nothing returning seq"
    )
    values = {
        "id": policy.id,
        "document": orjson.dumps(policy.document()).decode(),
        "from_height": from_height,
        "created_by": created_by,
        "now": now,
    }
    seq = (await session.execute(query, values)).scalar_one_or_none()
    return None if seq is None else StoredPolicy(seq, policy, from_height, now)


async def newest(session: Session, *, below: int | None, limit: int) -> list[StoredPolicy]:
    """Policies, the latest scheduled first."""
    query = text(
        "select seq, document, from_height, created_at from policy"
        " where cast(:below as bigint) is null or seq < :below order by seq desc limit :limit"
    )
    return [
        StoredPolicy(row.seq, policy_of(row.document), row.from_height, row.created_at)
        for row in await session.execute(query, {"below": below, "limit": limit})
    ]
