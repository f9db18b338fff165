"""Folds counted votes into tallies, so that a busy round does not flood its viewers."""

from collections import deque
from dataclasses import dataclass, field
from uuid import UUID

from memepool_gateway.stream.models import MemeTally, VotesTally
from memepool_gateway.stream.translate import CountedVotes

ROUNDS_MAX = 8


@dataclass
class _Round:
    sequence: int = 0
    pot: int = 0
    memes: dict[UUID, MemeTally] = field(default_factory=dict)
    changed: set[UUID] = field(default_factory=set)


class TallyFold:
    """Where rounds stand. Batches may come in any order and repeatedly."""

    def __init__(self) -> None:
        self._rounds: dict[str, _Round] = {}
        self._closed: deque[str] = deque(maxlen=ROUNDS_MAX)

    @property
    def pending(self) -> bool:
        """Whether there is something to tell."""
        return any(standing.changed for standing in self._rounds.values())

    def add(self, votes: CountedVotes) -> None:
        """Take in a batch.

        Raises:
            ValueError: its columns do not fit together.
        """
        if votes.round_id in self._closed or not votes.sequence:
            return
        tallies = votes.tallies
        rows = list(zip(tallies.content_id, tallies.stakes, tallies.backers, strict=True))
        standing = self._rounds.setdefault(votes.round_id, _Round())
        while len(self._rounds) > ROUNDS_MAX:
            self._rounds.pop(next(iter(self._rounds)))
        later = False
        for content_id, stakes, backers in rows:
            # Votes are not counted in the order of their sequence, but stakes only grow.
            known = standing.memes.get(content_id)
            if known is None or stakes > known.stakes:
                tally = MemeTally(content_id=content_id, stakes=stakes, backers=backers)
                standing.memes[content_id] = tally
                standing.changed.add(content_id)
                later = True
        sequence = max(votes.sequence)
        if sequence > standing.sequence or (later and votes.pot > standing.pot):
            standing.sequence, standing.pot = max(sequence, standing.sequence), votes.pot

    def close(self, round_id: str) -> None:
        """Nothing more is told of a round: its results are."""
        self._rounds.pop(round_id, None)
        self._closed.append(round_id)

    def tallies(self) -> list[VotesTally]:
        """What changed since the last `told`, one tally for each round."""
        found = []
        for round_id, standing in self._rounds.items():
            if standing.changed:
                memes = [standing.memes[content_id] for content_id in sorted(standing.changed)]
                found.append(
                    VotesTally(
                        round_id=round_id,
                        sequence=standing.sequence,
                        pot=standing.pot,
                        memes=memes,
                    )
                )
        return found

    def told(self) -> None:
        """The tallies are out."""
        for standing in self._rounds.values():
            standing.changed.clear()
