"""All that follows from a round's votes, in one pass: ranking, rewards, roots, bundle's hash."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from memepool_rounds.domain import bundle
from memepool_rounds.domain.bundle import Inputs
from memepool_rounds.domain.rewards import Distribution, distribute
from memepool_rounds.domain.roots import Chunk, Roots, VoteTree, rewards_root
from memepool_rounds.domain.tally import CountedVote, Counting, Tally


@dataclass(frozen=True, slots=True)
class Outcome:
    """What anyone who has the same votes must find. `chunks` are nodes of the tree over the votes,
    `bundle_sha256` is of the bundle's bytes, in hexadecimal digits."""

    tally: Tally
    distribution: Distribution
    roots: Roots
    chunks: Sequence[Chunk]
    bundle_sha256: str


class Reckoning:
    """Takes the counted votes of a round by sequence, in parts, and keeps none of them."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs: Final = inputs
        self._counting = Counting()
        self._tree = VoteTree(str(inputs.round_id))
        self._bundle = hashlib.sha256(bundle.opening_part(inputs))
        self._first = True

    def add(self, votes: Sequence[CountedVote]) -> None:
        """The next votes."""
        self._counting.add(votes)
        self._tree.add(votes)
        self._bundle.update(bundle.votes_part(votes, first=self._first))
        self._first = self._first and not votes

    def outcome(self) -> Outcome:
        """What follows from all of them; see `Counting.tally` and `distribute`."""
        inputs = self._inputs
        creators: Mapping[UUID, UUID] = {e.content_id: e.creator_id for e in inputs.entered}
        tally = self._counting.tally(
            creators, curve=inputs.policy.curve, closing_block_hash=inputs.closing[1]
        )
        distribution = distribute(inputs.policy, tally, inputs.carry_in)
        rewards = rewards_root(str(inputs.round_id), distribution)
        roots = Roots(self._tree.root(), rewards)
        self._bundle.update(bundle.closing_part(tally.ranking, distribution, roots))
        return Outcome(tally, distribution, roots, self._tree.chunks(), self._bundle.hexdigest())
