"""Placing votes: many requests, one statement, one event."""

from collections.abc import Sequence
from datetime import datetime

from memepool_common.db import Session, Statement
from memepool_rounds.domain.errors import (
    KeyReused,
    MemeNotInRound,
    NoRoundYet,
    OwnMeme,
    RoundNotFound,
    RoundNotOpen,
    RoundsError,
    StakeTooSmall,
    Suspended,
    VotesFull,
)
from memepool_rounds.store import votes
from memepool_rounds.store.votes import PlaceVote, Refused, StoredVote


async def place_votes(
    session: Session | Statement, requests: Sequence[PlaceVote], *, votes_max: int, now: datetime
) -> list[StoredVote | Exception]:
    """Place what may be placed; for each request its vote, or why there is none.

    A key that was used before answers its vote as it stands now, whatever has become of the round.
    """
    if not requests:
        return []
    outcomes = await votes.place(session, requests, votes_max=votes_max, now=now)
    return [
        outcome if isinstance(outcome, StoredVote) else _refusal(request, outcome)
        for request, outcome in zip(requests, outcomes, strict=True)
    ]


def _refusal(request: PlaceVote, found: Refused) -> RoundsError:
    round_id = found.round_id
    refusals: dict[str, RoundsError] = {
        each.code: each
        for each in (
            NoRoundYet("No round has opened yet: the chain is still being caught up with."),
            RoundNotFound(f"There is no round {round_id}."),
            RoundNotOpen(f"Round {round_id} is {found.state}; it takes no more votes."),
            MemeNotInRound(f"Meme {request.content_id} is not in round {round_id}."),
            OwnMeme("Nobody votes for a meme of their own."),
            Suspended("This account is suspended."),
            StakeTooSmall(f"The least stake in this round is {found.amount} satoshis."),
            VotesFull(f"Round {round_id} has as many votes as a round can have."),
            KeyReused("This Idempotency-Key was used for another vote; use a new key."),
        )
    }
    return refusals[found.code]
