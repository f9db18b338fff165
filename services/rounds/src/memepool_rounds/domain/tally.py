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
    """A vote whose stake is held. `sequence` is the order in which votes were placed.

    Ids are in their usual text form, in which they are hashed and published: a round may have a
    million votes, and their ids are never anything else.
    """

    id: str
    voter_id: str
    content_id: str
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

    `backers` (ids as text) are the winning meme's, in the order of their first counted vote on it;
    `tie_breaks` holds the number that decides for a meme when all else is equal, lower first.
    """

    counted_votes: int
    stakes: int
    ranking: tuple[Ranked, ...]
    backers: tuple[str, ...]
    tie_breaks: Mapping[UUID, bytes]


@dataclass(slots=True)
class _Backing:
    amount: int
    first_sequence: int


class Counting:
    """Adds votes up, in whatever order they come. It holds voters by meme, never the votes."""

    def __init__(self) -> None:
        self._counted_votes = 0
        self._memes: defaultdict[str, dict[str, _Backing]] = defaultdict(dict)

    def add(self, votes: Iterable[CountedVote]) -> None:
        """More of the round's counted votes, of memes that are still in it."""
        for vote in votes:
            self._counted_votes += 1
            backings = self._memes[vote.content_id]
            backing = backings.get(vote.voter_id)
            if backing is None:
                backings[vote.voter_id] = _Backing(vote.amount, vote.sequence)
            else:
                backing.amount += vote.amount
                backing.first_sequence = min(backing.first_sequence, vote.sequence)

    def tally(
        self, creators: Mapping[UUID, UUID], *, curve: Curve, closing_block_hash: str
    ) -> Tally:
        """Where the round stands.

        Args:
            creators: who made each meme in the round.
            curve: how a voter's total on a meme scores; it decides the ranking, not the stakes.
            closing_block_hash: hex in display order, as first seen; breaks what is equal otherwise.
        """
        memes = {UUID(content_id): backings for content_id, backings in self._memes.items()}
        scores = {meme: _score(backings, curve) for meme, backings in memes.items()}
        tie_breaks = {meme: tie_break(closing_block_hash, meme) for meme in memes}
        order = sorted(memes, key=lambda meme: (-scores[meme], -len(memes[meme]), tie_breaks[meme]))
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
            counted_votes=self._counted_votes,
            stakes=sum(meme.stakes for meme in ranking),
            ranking=ranking,
            backers=tuple(sorted(winner, key=lambda voter: winner[voter].first_sequence)),
            tie_breaks=tie_breaks,
        )


def tie_break(closing_block_hash: str, content_id: UUID) -> bytes:
    """SHA-256 of the block hash's 32 bytes in display order and the id's 16 bytes."""
    return hashlib.sha256(bytes.fromhex(closing_block_hash) + content_id.bytes).digest()


def _score(backings: Mapping[str, _Backing], curve: Curve) -> int:
    if curve == "linear":
        return sum(backing.amount for backing in backings.values())
    return sum(isqrt(backing.amount * SQRT_SCALE) for backing in backings.values())
