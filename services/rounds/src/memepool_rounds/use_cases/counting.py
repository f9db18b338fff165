"""Counting votes whose stakes payments holds, and rejecting those it refused.

What is no longer pending stays as it is: a late or repeated answer changes nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Final
from uuid import UUID

from memepool_common.db import Session
from memepool_common.events import NewEvent, outbox
from memepool_rounds import events
from memepool_rounds.store import rounds, submissions, votes
from memepool_rounds.store.votes import StoredVote

VOTES_PER_EVENT_MAX: Final = 5_000
REASON_LENGTH_MAX: Final = 100


async def count_held(session: Session, vote_ids: Sequence[UUID]) -> None:
    """The stakes of these votes are held: count them, with one event per round."""
    memes = await votes.memes_of(session, vote_ids)
    if not memes:
        return
    await rounds.by_ids(session, list(memes), " for share")
    for round_id, contents in memes.items():
        await submissions.lock_tallies(session, round_id, contents)
    by_round = _by_round(await votes.count_pending(session, vote_ids))
    announcements = [
        events.about_round(
            events.VOTE_COUNTED, str(round_id), await _add_up(session, round_id, counted)
        )
        for round_id, counted in by_round.items()
    ]
    await outbox.append(session, announcements)


async def reject_refused(
    session: Session, vote_ids: Sequence[UUID], reasons: Sequence[str]
) -> None:
    """Payments holds nothing for these votes, each for its reason."""
    short = [reason[:REASON_LENGTH_MAX] for reason in reasons]
    rejected = await votes.reject(session, vote_ids, short)
    for round_id, batch in _by_round(rejected).items():
        await outbox.append(session, rejected_events(round_id, batch))


def rejected_events(round_id: int, rejected: Sequence[StoredVote]) -> list[NewEvent]:
    """What voters and payments hear of rejected votes of a round, in events of bounded size."""
    return [
        events.about_round(
            events.VOTE_REJECTED,
            str(round_id),
            events.VotesRejectedData(
                round_id=str(round_id),
                vote_id=[vote.id for vote in part],
                voter_id=[vote.voter_id for vote in part],
                content_id=[vote.content_id for vote in part],
                amount=[vote.amount for vote in part],
                reason=[vote.reason or "" for vote in part],
            ),
        )
        for part in _parts(rejected)
    ]


async def _add_up(
    session: Session, round_id: int, counted: Sequence[StoredVote]
) -> events.VotesCountedData:
    stakes: dict[UUID, int] = {}
    for vote in counted:
        stakes[vote.content_id] = stakes.get(vote.content_id, 0) + vote.amount
    backers = await votes.new_backers(session, round_id, counted)
    standing = await submissions.add_to_tallies(
        session,
        round_id,
        list(stakes),
        list(stakes.values()),
        [backers.get(content_id, 0) for content_id in stakes],
    )
    pot = (await submissions.pot(session, [round_id]))[round_id]
    return events.VotesCountedData(
        round_id=str(round_id),
        vote_id=[vote.id for vote in counted],
        voter_id=[vote.voter_id for vote in counted],
        content_id=[vote.content_id for vote in counted],
        amount=[vote.amount for vote in counted],
        sequence=[vote.sequence for vote in counted],
        tallies=events.Tallies(
            content_id=[each.content_id for each in standing],
            stakes=[each.stakes for each in standing],
            backers=[each.backers for each in standing],
        ),
        pot=pot,
    )


def _by_round(changed: Sequence[StoredVote]) -> dict[int, list[StoredVote]]:
    found: dict[int, list[StoredVote]] = {}
    for vote in changed:
        found.setdefault(vote.round_id, []).append(vote)
    return found


def _parts(rejected: Sequence[StoredVote]) -> Iterator[Sequence[StoredVote]]:
    for start in range(0, len(rejected), VOTES_PER_EVENT_MAX):
        yield rejected[start : start + VOTES_PER_EVENT_MAX]
