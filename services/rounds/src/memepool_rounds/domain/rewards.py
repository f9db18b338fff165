"""From a tally to rewards, exact to the satoshi: pot = fee + rewards + carry-out.

Each bucket is floor(pot x bp / 10000). What the floors leave over, and buckets without takers, are
carried out into a later round. Lines of zero do not exist.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from memepool_rounds.domain.policy import BASIS_POINTS, Policy
from memepool_rounds.domain.tally import Ranked, Tally


@dataclass(frozen=True, slots=True)
class Reward:
    """One line; a recipient may have several. Reasons: `creator`, `place:<rank>`,
    `backers:<first>-<last>`."""

    recipient: UUID
    amount: int
    reason: str


@dataclass(frozen=True, slots=True)
class Distribution:
    """What becomes of a pot."""

    pot: int
    fee: int
    carry_out: int
    rewards: tuple[Reward, ...]


def distribute(policy: Policy, tally: Tally, carry_in: int) -> Distribution:
    """Turn the pot (stakes and carry-in) into rewards.

    Raises:
        ValueError: carry was taken into a round without counted votes; it must not be.
    """
    if not tally.counted_votes:
        if carry_in:
            raise ValueError("a round without counted votes takes no carry")
        return Distribution(pot=0, fee=0, carry_out=0, rewards=())
    pot = tally.stakes + carry_in
    fee = _bucket(pot, policy.fee_bp)
    rewards = tuple(line for line in _lines(policy, tally, pot) if line.amount)
    carry_out = pot - fee - sum(line.amount for line in rewards)
    if carry_out < 0:
        raise AssertionError("rewards exceed the pot")
    return Distribution(pot, fee, carry_out, rewards)


def _lines(policy: Policy, tally: Tally, pot: int) -> Iterator[Reward]:
    shares = _by_stakes(_bucket(pot, policy.creators_bp), tally.ranking, tally.tie_breaks)
    for meme, share in zip(tally.ranking, shares, strict=True):
        yield Reward(meme.creator_id, share, "creator")
    for meme, place_bp in zip(tally.ranking, policy.places_bp, strict=False):
        yield Reward(meme.creator_id, _bucket(pot, place_bp), f"place:{meme.rank}")
    for tier in policy.tiers:
        present = tally.backers[tier.first - 1 : tier.last]
        shared = _equally(_bucket(pot, tier.bp), len(present))
        for backer, share in zip(present, shared, strict=True):
            yield Reward(UUID(backer), share, f"backers:{tier.first}-{tier.last}")


def _bucket(pot: int, share_bp: int) -> int:
    return pot * share_bp // BASIS_POINTS


def _by_stakes(
    bucket: int, ranking: Sequence[Ranked], tie_breaks: Mapping[UUID, bytes]
) -> list[int]:
    """Split by stakes: floors, then one satoshi each to the largest remainders."""
    total = sum(meme.stakes for meme in ranking)
    shares = [bucket * meme.stakes // total for meme in ranking]
    by_remainder = sorted(
        range(len(ranking)),
        key=lambda i: (-(bucket * ranking[i].stakes % total), tie_breaks[ranking[i].content_id]),
    )
    for i in by_remainder[: bucket - sum(shares)]:
        shares[i] += 1
    return shares


def _equally(bucket: int, takers: int) -> list[int]:
    """Split equally; spare satoshis go to the earlier places."""
    if not takers:
        return []
    share, spare = divmod(bucket, takers)
    return [share + (place < spare) for place in range(takers)]
