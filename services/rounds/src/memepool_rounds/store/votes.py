"""Votes: placed in batches, answered in batches."""

# ruff: noqa: S608 - what is put into statements are this module's own column lists
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import text

from memepool_common.db import Session
from memepool_rounds.domain.tally import CountedVote

VoteState = Literal["pending", "counted", "rejected"]
_COLUMNS = "id, round_id, content_id, voter_id, amount, state, reason, sequence, placed_at"


@dataclass(frozen=True, slots=True)
class StoredVote:
    """A vote as it stands. `sequence` is given when it is placed, and may leave gaps."""

    id: UUID
    round_id: int
    content_id: UUID
    voter_id: UUID
    amount: int
    state: VoteState
    reason: str | None
    sequence: int
    placed_at: datetime


@dataclass(frozen=True, slots=True)
class NewVote:
    """A vote to be placed; key and hash of the request are both there or both None."""

    id: UUID
    round_id: int
    content_id: UUID
    voter_id: UUID
    amount: int
    key: str | None
    request_hash: bytes | None


@dataclass(frozen=True, slots=True)
class Keyed:
    """A vote that was placed under an idempotency key."""

    vote: StoredVote
    request_hash: bytes


async def by_keys(
    session: Session, keys: Sequence[tuple[UUID, str]]
) -> dict[tuple[UUID, str], Keyed]:
    """The votes placed under these (voter, key) pairs."""
    if not keys:
        return {}
    query = text(
        f"select key, request_hash, {_COLUMNS} from vote where (voter_id, key) in"
        " (select * from unnest(cast(:voters as uuid[]), cast(:keys as text[])))"
    )
    values = {"voters": [voter for voter, _ in keys], "keys": [key for _, key in keys]}
    return {
        (row.voter_id, row.key): Keyed(StoredVote(*row[2:]), bytes(row.request_hash))
        for row in await session.execute(query, values)
    }


async def insert(
    session: Session, votes: Sequence[NewVote], now: datetime
) -> dict[UUID, StoredVote]:
    """Place votes in the order given; one whose key is taken is left out of the result."""
    query = text(
        "insert into vote (id, round_id, content_id, voter_id, amount, placed_at, key,"
        " request_hash) select id, round_id, content_id, voter_id, amount, :now, key, request_hash"
        " from unnest(cast(:ids as uuid[]), cast(:rounds as bigint[]), cast(:contents as uuid[]),"
        "   cast(:voters as uuid[]), cast(:amounts as bigint[]), cast(:keys as text[]),"
        "   cast(:hashes as bytea[])) with ordinality"
        "   as n (id, round_id, content_id, voter_id, amount, key, request_hash, place)"
        f" order by place on conflict (voter_id, key) do nothing returning {_COLUMNS}"
    )
    values = {
        "now": now,
        "ids": [vote.id for vote in votes],
        "rounds": [vote.round_id for vote in votes],
        "contents": [vote.content_id for vote in votes],
        "voters": [vote.voter_id for vote in votes],
        "amounts": [vote.amount for vote in votes],
        "keys": [vote.key for vote in votes],
        "hashes": [vote.request_hash for vote in votes],
    }
    return {row.id: StoredVote(*row) for row in await session.execute(query, values)}


async def spread(session: Session, round_id: int) -> int:
    """At least how many votes a round has (sequences may leave gaps), from two index look-ups."""
    query = text(
        "select coalesce(max(sequence) - min(sequence) + 1, 0) from vote where round_id = :round"
    )
    return int((await session.execute(query, {"round": round_id})).scalar_one())


async def any_in(session: Session, round_id: int) -> bool:
    """Whether anybody has voted in a round."""
    query = text("select exists (select from vote where round_id = :round)")
    return bool((await session.execute(query, {"round": round_id})).scalar_one())


async def any_pending(session: Session, round_id: int) -> bool:
    """Whether a vote of the round still waits for its stake."""
    query = text("select exists (select from vote where round_id = :round and state = 'pending')")
    return bool((await session.execute(query, {"round": round_id})).scalar_one())


async def one(session: Session, round_id: int, vote_id: UUID) -> StoredVote | None:
    """A vote of a round, or None."""
    query = text(f"select {_COLUMNS} from vote where id = :id and round_id = :round")
    row = (await session.execute(query, {"id": vote_id, "round": round_id})).one_or_none()
    return None if row is None else StoredVote(*row)


async def page(
    session: Session, round_id: int, *, voter_id: UUID | None, after: int, limit: int
) -> list[StoredVote]:
    """Votes of a round by sequence: one voter's, or everybody's."""
    query = text(
        f"select {_COLUMNS} from vote where round_id = :round and sequence > :after"
        " and (cast(:voter as uuid) is null or voter_id = :voter) order by sequence limit :limit"
    )
    values = {"round": round_id, "after": after, "voter": voter_id, "limit": limit}
    return [StoredVote(*row) for row in await session.execute(query, values)]


async def decided(session: Session, vote_ids: Sequence[UUID]) -> list[StoredVote]:
    """Those of these votes that are no longer pending."""
    query = text(f"select {_COLUMNS} from vote where id = any(:ids) and state <> 'pending'")
    return [StoredVote(*row) for row in await session.execute(query, {"ids": list(vote_ids)})]


async def memes_of(session: Session, vote_ids: Sequence[UUID]) -> dict[int, list[UUID]]:
    """Which memes pending votes are for, by round."""
    query = text(
        "select distinct round_id, content_id from vote where id = any(:ids) and state = 'pending'"
        " order by round_id, content_id"
    )
    found: dict[int, list[UUID]] = {}
    for round_id, content_id in await session.execute(query, {"ids": list(vote_ids)}):
        found.setdefault(round_id, []).append(content_id)
    return found


async def count_pending(session: Session, vote_ids: Sequence[UUID]) -> list[StoredVote]:
    """Count those that are still pending; returns them by sequence."""
    query = text(
        "with counted as (update vote set state = 'counted'"
        f" where id = any(:ids) and state = 'pending' returning {_COLUMNS})"
        " select * from counted order by sequence"
    )
    return [StoredVote(*row) for row in await session.execute(query, {"ids": list(vote_ids)})]


async def new_backers(
    session: Session, round_id: int, counted: Sequence[StoredVote]
) -> dict[UUID, int]:
    """By meme, how many voters back it for the first time in this round with these votes."""
    query = text(
        "select d.content_id, count(*) from (select distinct content_id, voter_id"
        "   from unnest(cast(:contents as uuid[]), cast(:voters as uuid[]))"
        "   as n (content_id, voter_id)) d"
        " where not exists (select from vote v where v.round_id = :round"
        "   and v.content_id = d.content_id and v.voter_id = d.voter_id and v.state = 'counted'"
        "   and v.id <> all(:ids)) group by d.content_id"
    )
    values = {
        "round": round_id,
        "contents": [vote.content_id for vote in counted],
        "voters": [vote.voter_id for vote in counted],
        "ids": [vote.id for vote in counted],
    }
    found = await session.execute(query, values)
    return {content_id: int(number) for content_id, number in found}


async def reject(
    session: Session, vote_ids: Sequence[UUID], reasons: Sequence[str]
) -> list[StoredVote]:
    """Reject those that are still pending; returns them by sequence."""
    query = text(
        "with rejected as (update vote v set state = 'rejected', reason = n.reason"
        "  from unnest(cast(:ids as uuid[]), cast(:reasons as text[])) as n (id, reason)"
        "  where v.id = n.id and v.state = 'pending' returning v.id, v.round_id, v.content_id,"
        "  v.voter_id, v.amount, v.state, v.reason, v.sequence, v.placed_at)"
        " select * from rejected order by sequence"
    )
    values = {"ids": list(vote_ids), "reasons": list(reasons)}
    return [StoredVote(*row) for row in await session.execute(query, values)]


async def reject_pending_of(session: Session, round_id: int, reason: str) -> list[StoredVote]:
    """Reject all that is pending in a round; returns them by sequence."""
    query = text(
        "with rejected as (update vote set state = 'rejected', reason = :reason"
        f" where round_id = :round and state = 'pending' returning {_COLUMNS})"
        " select * from rejected order by sequence"
    )
    values = {"round": round_id, "reason": reason}
    return [StoredVote(*row) for row in await session.execute(query, values)]


async def reject_for_meme(session: Session, round_id: int, content_id: UUID, reason: str) -> int:
    """Reject all votes for a meme that left, counted ones too; returns how many."""
    query = text(
        "update vote set state = 'rejected', reason = :reason"
        " where round_id = :round and content_id = :content and state <> 'rejected'"
    )
    values = {"round": round_id, "content": content_id, "reason": reason}
    return (await session.execute(query, values)).rowcount


async def counted_page(
    session: Session, round_id: int, *, after: int, limit: int
) -> list[CountedVote]:
    """Counted votes of a round behind a sequence, by sequence; a million fit no memory."""
    query = text(
        "select id::text, voter_id::text, content_id::text, amount, sequence from vote"
        " where round_id = :round and state = 'counted' and sequence > :after"
        " order by sequence limit :limit"
    )
    values = {"round": round_id, "after": after, "limit": limit}
    return [CountedVote(*row) for row in await session.execute(query, values)]


async def any_counted(session: Session, round_id: int) -> bool:
    """Whether a vote of the round counts."""
    query = text("select exists (select from vote where round_id = :round and state = 'counted')")
    return bool((await session.execute(query, {"round": round_id})).scalar_one())
