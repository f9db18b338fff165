"""Memes in rounds with their live tallies, and those that wait for the next round."""

# ruff: noqa: S608 - what is put into statements are this module's own column lists
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import text

from memepool_common.db import Session

SubmissionState = Literal["entered", "withdrawn", "removed"]


@dataclass(frozen=True, slots=True)
class StoredSubmission:
    """A meme in a round, with the image that counts there."""

    round_id: int
    content_id: UUID
    creator_id: UUID
    version: int
    sha256: str
    state: SubmissionState
    submitted_at: datetime
    stakes: int
    backers: int


@dataclass(frozen=True, slots=True)
class Queued:
    """A meme that waits for a round with room. `eligible`: known, not removed, creator not
    suspended; version and sha256 are those of now."""

    content_id: UUID
    creator_id: UUID
    version: int
    sha256: str
    submitted_at: datetime
    eligible: bool


_COLUMNS = "round_id, content_id, creator_id, version, sha256, state, submitted_at, stakes, backers"


async def of_rounds(
    session: Session, round_ids: Sequence[int]
) -> dict[int, list[StoredSubmission]]:
    """The memes that are in these rounds, in the order in which they came."""
    query = text(
        f"select {_COLUMNS} from submission where round_id = any(:ids) and state = 'entered'"
        " order by round_id, submitted_at, content_id"
    )
    found: dict[int, list[StoredSubmission]] = {round_id: [] for round_id in round_ids}
    for row in await session.execute(query, {"ids": list(round_ids)}):
        found[row.round_id].append(StoredSubmission(*row))
    return found


async def page(
    session: Session, round_id: int, *, after: tuple[datetime, UUID] | None, limit: int
) -> list[StoredSubmission]:
    """A page of the memes that are in a round."""
    at, content_id = after or (None, None)
    query = text(
        f"select {_COLUMNS} from submission where round_id = :round and state = 'entered'"
        " and (cast(:at as timestamptz) is null"
        "   or (submitted_at, content_id) > (cast(:at as timestamptz), cast(:content as uuid)))"
        " order by submitted_at, content_id limit :limit"
    )
    values = {"round": round_id, "at": at, "content": content_id, "limit": limit}
    return [StoredSubmission(*row) for row in await session.execute(query, values)]


async def of_creator(session: Session, round_id: int, creator_id: UUID) -> StoredSubmission | None:
    """What a creator has entered, whatever became of it: the entry is used up."""
    query = text(
        f"select {_COLUMNS} from submission where round_id = :round and creator_id = :creator"
    )
    row = (await session.execute(query, {"round": round_id, "creator": creator_id})).one_or_none()
    return None if row is None else StoredSubmission(*row)


async def one(session: Session, round_id: int, content_id: UUID) -> StoredSubmission | None:
    """A meme in a round, also when it has left."""
    query = text(
        f"select {_COLUMNS} from submission where round_id = :round and content_id = :content"
    )
    row = (await session.execute(query, {"round": round_id, "content": content_id})).one_or_none()
    return None if row is None else StoredSubmission(*row)


async def count(session: Session, round_id: int) -> int:
    """How many memes a round has taken; one that left does not make room."""
    query = text("select count(*) from submission where round_id = :round")
    return int((await session.execute(query, {"round": round_id})).scalar_one())


async def insert(session: Session, submissions: Sequence[StoredSubmission]) -> None:
    """Enter memes. The database allows one per creator and round."""
    if not submissions:
        return
    await session.execute(
        text(
            "insert into submission (round_id, content_id, creator_id, version, sha256,"
            " submitted_at) values (:round_id, :content_id, :creator_id, :version, :sha256, :at)"
        ),
        [
            {
                "round_id": each.round_id,
                "content_id": each.content_id,
                "creator_id": each.creator_id,
                "version": each.version,
                "sha256": each.sha256,
                "at": each.submitted_at,
            }
            for each in submissions
        ],
    )


async def leave(session: Session, round_id: int, content_id: UUID, state: SubmissionState) -> None:
    """A meme leaves its round; its tally is void."""
    query = text(
        "update submission set state = :state, stakes = 0, backers = 0"
        " where round_id = :round and content_id = :content"
    )
    await session.execute(query, {"round": round_id, "content": content_id, "state": state})


async def rounds_holding(session: Session, content_id: UUID) -> list[int]:
    """The rounds before their tally that a meme is in."""
    query = text(
        "select s.round_id from submission s join round r on r.id = s.round_id"
        " where r.state in ('open', 'closing') and s.content_id = :content and s.state = 'entered'"
        " order by s.round_id"
    )
    return list((await session.execute(query, {"content": content_id})).scalars())


async def left(session: Session, round_id: int) -> list[UUID]:
    """The memes that left a round before its tally."""
    query = text(
        "select content_id from submission where round_id = :round and state <> 'entered'"
        " order by content_id"
    )
    return list((await session.execute(query, {"round": round_id})).scalars())


async def enqueue(session: Session, content_id: UUID, creator_id: UUID, now: datetime) -> None:
    """Let a meme wait for the next round with room."""
    query = text(
        "insert into queued_submission (content_id, creator_id, submitted_at)"
        " values (:content, :creator, :now)"
    )
    await session.execute(query, {"content": content_id, "creator": creator_id, "now": now})


async def queue_length(session: Session) -> int:
    """How many wait."""
    query = text("select count(*) from queued_submission")
    return int((await session.execute(query)).scalar_one())


async def queued_of(session: Session, creator_id: UUID) -> UUID | None:
    """The meme with which a creator waits."""
    query = text("select content_id from queued_submission where creator_id = :creator")
    found: UUID | None = (
        await session.execute(query, {"creator": creator_id})
    ).scalar_one_or_none()
    return found


async def take_from_queue(session: Session, contents: Sequence[UUID]) -> list[UUID]:
    """Remove these from the queue; returns those that were there."""
    query = text(
        "delete from queued_submission where content_id = any(:contents) returning content_id"
    )
    return list((await session.execute(query, {"contents": list(contents)})).scalars())


async def lock_queue(session: Session, *, wait: bool = True) -> list[Queued]:
    """All that wait, first come first, their memes locked against removal. Who may not wait for
    these locks, because of locks that it has, gets none of the memes that are changing."""
    query = text(
        "select q.content_id, q.creator_id, m.version, m.sha256, q.submitted_at,"
        " not m.removed and not coalesce("
        "   (select a.suspended from account a where a.user_id = q.creator_id), false) as eligible"
        " from queued_submission q join meme m on m.content_id = q.content_id"
        " order by q.seq for share of m" + " skip locked" * (not wait)
    )
    return [Queued(*row) for row in await session.execute(query)]


async def pot(session: Session, round_ids: Sequence[int]) -> dict[int, int]:
    """The counted stakes of rounds, before their tally."""
    query = text(
        "select round_id, sum(stakes)::bigint from submission where round_id = any(:ids)"
        " group by round_id"
    )
    found = await session.execute(query, {"ids": list(round_ids)})
    return {round_id: int(total) for round_id, total in found}
