"""All that follows from a round's votes, in one pure step: ranking, rewards, roots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from memepool_rounds.domain.policy import Policy
from memepool_rounds.domain.rewards import Distribution, distribute
from memepool_rounds.domain.roots import Roots, roots_of
from memepool_rounds.domain.tally import CountedVote, Tally, tally


@dataclass(frozen=True, slots=True)
class Outcome:
    """What anyone who has the same votes must find."""

    tally: Tally
    distribution: Distribution
    roots: Roots


def outcome_of(
    round_id: str,
    policy: Policy,
    votes: Sequence[CountedVote],
    creators: Mapping[UUID, UUID],
    *,
    carry_in: int,
    closing_block_hash: str,
) -> Outcome:
    """The outcome of a round; see `tally`, `distribute` and `roots_of`."""
    counted = tally(votes, creators, curve=policy.curve, closing_block_hash=closing_block_hash)
    distribution = distribute(policy, counted, carry_in)
    return Outcome(counted, distribution, roots_of(round_id, votes, distribution))
