"""Votes: placed in batches, answered in batches."""

# ruff: noqa: S608 - what is put into statements are this module's own column lists
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, cast
from uuid import UUID

from sqlalchemy import text

from memepool_common.arrays import bigints, byteas, texts, uuids
from memepool_common.db import Session, Statement, run, take_time
from memepool_common.events import outbox
from memepool_common.events.consumer import rows_in_sql
from memepool_rounds.domain.tally import CountedVote

VoteState = Literal["pending", "counted", "rejected"]
ALL_VOTES_S_MAX: Final = 120
"""A round may have a million votes: what changes them all may take longer than statements do. Given
up, it would be given up again and again."""
_COLUMNS = "id, round_id, content_id, voter_id, amount, state, reason, sequence, placed_at"


class StoredVote(NamedTuple):
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


class PlaceVote(NamedTuple):
    """A vote as it was asked for. Without a round it is for the one that is open; without an
    amount, for the policy's minimum stake. The hash covers the request as it was sent."""

    id: UUID
    round_id: int | None
    content_id: UUID
    voter_id: UUID
    amount: int | None
    key: str | None
    request_hash: bytes


class Refused(NamedTuple):
    """A vote that was not placed, by the code of its refusal; round, state and amount are those
    that it was refused for (amount: the least stake)."""

    code: str
    round_id: int | None
    amount: int | None
    state: str | None


_PLACE = (
    "select * from place_votes(%b::uuid[], %b::bigint[], %b::uuid[], %b::uuid[], %b::bigint[],"
    " %b::text[], %b::bytea[], %s, %s, (%s::uuid[])[1], %s::text)"
)
_COUNT = "{}select count_votes(%b::text[], %s, %s::uuid[], %s::text){}"


async def place(
    session: Session | Statement, asked: Sequence[PlaceVote], *, votes_max: int, now: datetime
) -> list[StoredVote | Refused]:
    """Place votes in the order given and announce them: one statement, one answer for each. That of
    a key that was used before is its vote as it stands."""
    ids, rounds, contents, voters, amounts, keys, hashes = zip(*asked, strict=True)
    told = outbox.written_in_sql(session, 1)
    values = (
        *(uuids(ids), bigints(rounds), uuids(contents), uuids(voters), bigints(amounts)),
        *(texts(keys), byteas(hashes), votes_max, now, told["event_ids"], told["traceparent"]),
    )
    (found,) = await run(session, _PLACE, values)
    answers: list[StoredVote | Refused | None] = []
    for each, sequence in zip(asked, found.sequences, strict=True):
        amount = found.least_stake if each.amount is None else each.amount
        ids = (each.id, found.open_id, each.content_id, each.voter_id)
        placed = sequence and StoredVote(*ids, amount, "pending", None, sequence, now)
        answers.append(placed)
    for other in found.others or ():
        answers[other["n"] - 1] = _other(other, asked[other["n"] - 1])
    return cast("list[StoredVote | Refused]", answers)


def _other(found: dict[str, Any], asked: PlaceVote) -> StoredVote | Refused:
    code, round_id, amount = found["outcome"], found["round_id"], found["amount"]
    if code != "known":
        return Refused(code, round_id, amount, found["state"])
    return StoredVote(
        *(UUID(found["id"]), round_id, asked.content_id, asked.voter_id, amount),
        *(found["state"], found["reason"], found["sequence"]),
        datetime.fromisoformat(found["placed_at"]),
    )


async def count(session: Session | Statement, held: Sequence[str], now: datetime) -> None:
    """Count and announce the votes in the bodies of payments' events that are still pending."""
    told = outbox.written_in_sql(session, len(held))
    rows = rows_in_sql(session)
    values = (*rows.values, texts(held), now, told["event_ids"], told["traceparent"])
    await run(session, _COUNT.format(rows.before, rows.after), values)


async def many_wait(session: Session | Statement, most: int) -> bool:
    """Whether about so many votes of the open round wait for their stakes, or more."""
    (found,) = await run(session, "select votes_wait(%s) as many", (most,))
    return bool(found.many)


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
    await take_time(session, ALL_VOTES_S_MAX)
    query = text(
        "with rejected as (update vote set state = 'rejected', reason = :reason"
        f" where round_id = :round and state = 'pending' returning {_COLUMNS})"
        " select * from rejected order by sequence"
    )
    values = {"round": round_id, "reason": reason}
    return [StoredVote(*row) for row in await session.execute(query, values)]


async def reject_for_meme(session: Session, round_id: int, content_id: UUID, reason: str) -> int:
    """Reject all votes for a meme that left, counted ones too; returns how many."""
    await take_time(session, ALL_VOTES_S_MAX)
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
