"""Whether a round's reward table may be paid: RoundClosed against what the ledger holds.

Rounds computes the rewards; payments pays nothing that it cannot account for itself.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

BASIS_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What RoundClosed says, in satoshis; `rewards` is the sum of its lines."""

    round_id: str
    counted_votes: int
    stakes: int
    carry_in: int
    carry_sources: Mapping[str, int]
    pot: int
    fee: int
    fee_basis_points: int
    carry_out: int
    creators: frozenset[UUID]
    rewards: int


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the ledger holds for the round, after everything void was refunded. `strangers` are
    recipients without a stake in it."""

    held_votes: int
    held: int
    escrow: int
    free_carry: Mapping[str, int]
    strangers: Collection[UUID]


def objection(plan: Plan, holdings: Holdings) -> str | None:
    """Why the plan must not be paid, beginning with a stable code; None if it may."""
    for code, holds, detail in (
        (
            "stakes_differ",
            (plan.counted_votes, plan.stakes) == (holdings.held_votes, holdings.held),
            f"votes {plan.counted_votes}:{plan.stakes} held {holdings.held_votes}:{holdings.held}",
        ),
        (
            "escrow_differs",
            holdings.escrow == holdings.held,
            f"the escrow has {holdings.escrow}, the stakes are {holdings.held}",
        ),
        (
            "pot_differs",
            plan.pot == plan.stakes + plan.carry_in,
            f"the pot of {plan.pot} is not {plan.stakes} + {plan.carry_in}",
        ),
        (
            "idle_round_with_money",
            plan.counted_votes > 0 or plan.pot == 0,
            "a round without counted votes takes no carry and charges no fee",
        ),
        (
            "carry_differs",
            plan.carry_in == sum(plan.carry_sources.values()),
            f"the carry sources do not add up to {plan.carry_in}",
        ),
        (
            "carry_not_free",
            all(
                holdings.free_carry.get(source) == amount
                for source, amount in plan.carry_sources.items()
            ),
            "a carry source is unknown, taken, or of another amount",
        ),
        (
            "fee_too_high",
            plan.fee <= plan.pot * plan.fee_basis_points // BASIS_POINTS,
            f"a fee of {plan.fee} is more than {plan.fee_basis_points} basis points of {plan.pot}",
        ),
        (
            "sum_differs",
            plan.pot == plan.fee + plan.rewards + plan.carry_out,
            f"{plan.fee} + {plan.rewards} + {plan.carry_out} is not the pot of {plan.pot}",
        ),
        (
            "recipient_without_stake",
            plan.creators.issuperset(holdings.strangers),
            "a reward goes to someone who neither made a ranked meme nor holds a stake",
        ),
    ):
        if not holds:
            return f"{code}: {detail}"
    return None
