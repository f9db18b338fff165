"""Rejecting votes whose stakes payments refused. (Those it holds are counted by `votes.count`.)

What is no longer pending stays as it is: a late or repeated answer changes nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Final
from uuid import UUID

from memepool_common.db import Session
from memepool_common.events import NewEvent, outbox
from memepool_rounds import events
from memepool_rounds.store import votes
from memepool_rounds.store.votes import StoredVote

VOTES_PER_EVENT_MAX: Final = 5_000
REASON_LENGTH_MAX: Final = 100


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


def _by_round(changed: Sequence[StoredVote]) -> dict[int, list[StoredVote]]:
    found: dict[int, list[StoredVote]] = {}
    for vote in changed:
        found.setdefault(vote.round_id, []).append(vote)
    return found


def _parts(rejected: Sequence[StoredVote]) -> Iterator[Sequence[StoredVote]]:
    for start in range(0, len(rejected), VOTES_PER_EVENT_MAX):
        yield rejected[start : start + VOTES_PER_EVENT_MAX]
