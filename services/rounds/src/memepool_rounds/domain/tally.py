"""From counted votes to a ranking of memes, and the order of the winner's backers."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Final
from uuid import UUID

from memepool_rounds.domain.policy import Curve

SQRT_SCALE: Final = 10**6


@dataclass(frozen=True, slots=True)
class CountedVote:
    """A vote whose stake is held. `sequence` is the order in which votes were placed."""

    id: UUID
    voter_id: UUID
    content_id: UUID
    amount: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Ranked:
    """A meme with counted stakes at its place, 1 being the first."""

    content_id: UUID
    creator_id: UUID
    stakes: int
    backers: int
    rank: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Where a round stands when nothing more can change.

    `backers` are the winning meme's, in the order of their first counted vote on it;
    `tie_breaks` holds the number that decides for a meme when all else is equal, lower first.
    """

    counted_votes: int
    stakes: int
    ranking: tuple[Ranked, ...]
    backers: tuple[UUID, ...]
    tie_breaks: Mapping[UUID, bytes]


@dataclass(slots=True)
class _Backing:
    amount: int
    first_sequence: int


def tally(
    votes: Iterable[CountedVote],
    creators: Mapping[UUID, UUID],
    *,
    curve: Curve,
    closing_block_hash: str,
) -> Tally:
    """Count votes, in whatever order they come.

    Args:
        votes: all counted votes of the round, of memes that are still in it.
        creators: who made each meme in the round.
        curve: how a voter's total on a meme scores; it decides the ranking, not the stakes.
        closing_block_hash: hex in display order, as first seen; breaks what is equal otherwise.
    """
    memes: defaultdict[UUID, dict[UUID, _Backing]] = defaultdict(dict)
    counted_votes = 0
    for vote in votes:
        counted_votes += 1
        backing = memes[vote.content_id].get(vote.voter_id)
        if backing is None:
            memes[vote.content_id][vote.voter_id] = _Backing(vote.amount, vote.sequence)
        else:
            backing.amount += vote.amount
            backing.first_sequence = min(backing.first_sequence, vote.sequence)
    tie_breaks = {meme: tie_break(closing_block_hash, meme) for meme in memes}
    order = sorted(
        memes, key=lambda meme: (-_score(memes[meme], curve), -len(memes[meme]), tie_breaks[meme])
    )
    ranking = tuple(
        Ranked(
            content_id=meme,
            creator_id=creators[meme],
            stakes=sum(backing.amount for backing in memes[meme].values()),
            backers=len(memes[meme]),
            rank=rank,
        )
        for rank, meme in enumerate(order, start=1)
    )
    winner = memes[order[0]] if order else {}
    return Tally(
        counted_votes=counted_votes,
        stakes=sum(meme.stakes for meme in ranking),
        ranking=ranking,
        backers=tuple(sorted(winner, key=lambda voter: winner[voter].first_sequence)),
        tie_breaks=tie_breaks,
    )


def tie_break(closing_block_hash: str, content_id: UUID) -> bytes:
    """SHA-256 of the block hash's 32 bytes in display order and the id's 16 bytes."""
    return hashlib.sha256(bytes.fromhex(closing_block_hash) + content_id.bytes).digest()


def _score(backings: Mapping[UUID, _Backing], curve: Curve) -> int:
    if curve == "linear":
        return sum(backing.amount for backing in backings.values())
    return sum(isqrt(backing.amount * SQRT_SCALE) for backing in backings.values())
