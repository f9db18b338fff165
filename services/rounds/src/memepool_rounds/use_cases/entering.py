"""Memes enter rounds, wait for the next one, and leave."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from memepool_common import audit
from memepool_common.db import Session
from memepool_common.events import outbox
from memepool_rounds import events
from memepool_rounds.domain.errors import (
    AlreadyEntered,
    AlreadyQueued,
    MemeRemoved,
    NotKnownYet,
    NotYours,
    QueueFull,
    RoundNotOpen,
    RoundTallied,
    SubmissionNotFound,
    SubmissionWithdrawn,
    Suspended,
)
from memepool_rounds.domain.rounds import RoundState
from memepool_rounds.store import projections, rounds, submissions, votes
from memepool_rounds.store.projections import Meme
from memepool_rounds.store.submissions import StoredSubmission
from memepool_rounds.use_cases.rounds import find_round

BEFORE_TALLY = (RoundState.OPEN, RoundState.CLOSING)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many memes a round takes, and how many may wait."""

    submissions_max: int
    queue_max: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A meme that entered the round, or waits because the round is full (no round, then)."""

    round_id: int | None
    content_id: UUID
    creator_id: UUID
    version: int
    sha256: str
    submitted_at: datetime


async def enter_meme(
    session: Session,
    *,
    round_id: int | None,
    content_id: UUID,
    creator_id: UUID,
    limits: Limits,
    now: datetime,
) -> Entry:
    """Enter a creator's meme into the open round, with the image that it has now.

    Raises:
        RoundsError: see `domain.errors`; a meme that content has not told of is NotKnownYet.
    """
    meme = await _own_meme(session, content_id, creator_id)
    if await projections.suspended(session, [creator_id]):
        raise Suspended("This account is suspended.")
    target = await find_round(session, round_id, " for update")
    if target.state is not RoundState.OPEN:
        raise RoundNotOpen(f"Round {target.id} is {target.state}; it takes no more memes.")
    earlier = await submissions.of_creator(session, target.id, creator_id)
    if earlier is not None:
        detail = f"Your entry in round {target.id} is used up by meme {earlier.content_id}."
        raise AlreadyEntered(detail)
    waiting = await submissions.queued_of(session, creator_id)
    if waiting is not None:
        raise AlreadyQueued(f"Your meme {waiting} already waits for the next round.")
    if await submissions.count(session, target.id) >= limits.submissions_max:
        if await submissions.queue_length(session) >= limits.queue_max:
            raise QueueFull("The round is full, and so is the queue for the next one.")
        await submissions.enqueue(session, content_id, creator_id, now)
        return Entry(None, content_id, creator_id, meme.version, meme.sha256, now)
    entry = Entry(target.id, content_id, creator_id, meme.version, meme.sha256, now)
    await admit(session, target.id, [entry])
    return entry


async def admit(session: Session, round_id: int, entries: Sequence[Entry]) -> None:
    """Write memes into a round that the caller holds locked."""
    rows = [
        StoredSubmission(
            round_id=round_id,
            content_id=entry.content_id,
            creator_id=entry.creator_id,
            version=entry.version,
            sha256=entry.sha256,
            state="entered",
            submitted_at=entry.submitted_at,
            stakes=0,
            backers=0,
        )
        for entry in entries
    ]
    await submissions.insert(session, rows)
    announcements = [
        events.about_round(
            events.MEME_SUBMITTED,
            str(round_id),
            events.MemeSubmittedData(
                round_id=str(round_id),
                content_id=entry.content_id,
                creator_id=entry.creator_id,
                version=entry.version,
                sha256=entry.sha256,
                submitted_at=entry.submitted_at,
            ),
        )
        for entry in entries
    ]
    await outbox.append(session, announcements)


async def withdraw_meme(
    session: Session,
    *,
    round_id: int | None,
    content_id: UUID,
    caller_id: UUID,
    is_admin: bool,
    now: datetime,
) -> None:
    """Take a meme out of its round before the tally, or out of the queue."""
    target = await find_round(session, round_id, " for update")
    entered = await submissions.one(session, target.id, content_id)
    if entered is None:
        await _leave_queue(session, content_id, caller_id, is_admin=is_admin)
        return
    if entered.creator_id != caller_id and not is_admin:
        raise NotYours("Only its creator or an admin takes a meme out of a round.")
    if entered.state != "entered":
        raise SubmissionWithdrawn(f"Meme {content_id} has left round {target.id} already.")
    if target.state not in BEFORE_TALLY:
        raise RoundTallied(f"Round {target.id} is tallied: its results stand.")
    await _leave(session, entered, "withdrawn", caller_id, now)


async def remove_memes(session: Session, contents: Sequence[UUID], now: datetime) -> None:
    """Memes are gone for good: out of the queue and of rounds that are not tallied."""
    await submissions.take_from_queue(session, contents)
    for content_id in sorted(contents):
        for round_id in await submissions.rounds_holding(session, content_id):
            target = await rounds.by_id(session, round_id, " for update")
            entered = await submissions.one(session, round_id, content_id)
            if target is None or entered is None or target.state not in BEFORE_TALLY:
                continue  # it was tallied while we waited: the results stand
            if entered.state == "entered":
                await _leave(session, entered, "removed", None, now)


async def _own_meme(session: Session, content_id: UUID, creator_id: UUID) -> Meme:
    meme = await projections.meme(session, content_id, lock=True)
    if meme is None:
        raise NotKnownYet(f"No meme {content_id} is ready; if it just became so, ask again.")
    if meme.creator_id != creator_id:
        raise NotYours("Only its creator enters a meme.")
    if meme.removed:
        raise MemeRemoved(f"Meme {content_id} has been removed.")
    return meme


async def _leave_queue(
    session: Session, content_id: UUID, caller_id: UUID, *, is_admin: bool
) -> None:
    own = await submissions.queued_of(session, caller_id) == content_id
    if not (own or is_admin) or not await submissions.take_from_queue(session, [content_id]):
        raise SubmissionNotFound(f"Meme {content_id} is neither in this round nor waiting.")


async def _leave(
    session: Session,
    entered: StoredSubmission,
    reason: Literal["withdrawn", "removed"],
    actor_id: UUID | None,
    now: datetime,
) -> None:
    """Its stakes go back (payments hears of the meme, not of each vote); its creator's entry in
    this round stays used up, or withdrawing would be a free way to play with the ranking."""
    await submissions.leave(session, entered.round_id, entered.content_id, reason)
    votes_void = await votes.reject_for_meme(
        session, entered.round_id, entered.content_id, f"meme_{reason}"
    )
    data = events.MemeWithdrawnData(
        round_id=str(entered.round_id),
        content_id=entered.content_id,
        creator_id=entered.creator_id,
        reason=reason,
        withdrawn_at=now,
    )
    await outbox.append(
        session, [events.about_round(events.MEME_WITHDRAWN, str(entered.round_id), data)]
    )
    await audit.record(
        session,
        actor_id=actor_id,
        account_id=entered.creator_id,
        action=f"rounds.meme.{reason}",
        subject=str(entered.content_id),
        details={"roundId": str(entered.round_id), "votes": votes_void},
    )
