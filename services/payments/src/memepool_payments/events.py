"""The events that payments publishes. It owns their schemas: only optional fields may be added.

Stakes travel in batches as columns: the same position in every list is the same vote.
"""

from typing import Literal
from uuid import UUID

from memepool_common.events import NewEvent
from memepool_common.events.envelope import INTERNAL, PUBLIC
from memepool_common.web.model import PositiveSats, Sats, Timestamp, WireModel

STAKE_HELD = "memepool.payments.stake.held.v1"
STAKE_REJECTED = "memepool.payments.stake.rejected.v1"
STAKE_REFUNDED = "memepool.payments.stake.refunded.v1"
REWARDS_DISTRIBUTED = "memepool.payments.rewards.distributed.v1"
DISTRIBUTION_STOPPED = "memepool.payments.distribution.stopped.v1"
SETTLEMENT_UPDATED = "memepool.payments.settlement.updated.v1"
DEPOSIT_CREDITED = "memepool.payments.deposit.credited.v1"
DEPOSIT_REVERSED = "memepool.payments.deposit.reversed.v1"
WITHDRAWAL_UPDATED = "memepool.payments.withdrawal.updated.v1"
TRANSFER_POSTED = "memepool.payments.transfer.posted.v1"


class StakesHeldData(WireModel, extra="forbid"):
    """The stakes of these votes are in the round's escrow."""

    round_id: str
    vote_id: list[UUID]


class StakesRejectedData(WireModel, extra="forbid"):
    """No money is held for these votes, and none will be."""

    round_id: str
    vote_id: list[UUID]
    reason: list[str]


class StakesRefundedData(WireModel, extra="forbid"):
    """These stakes went back to their voters."""

    round_id: str
    vote_id: list[UUID]
    voter_id: list[UUID]
    content_id: list[UUID]
    amount: list[PositiveSats]
    reason: str


class RewardsDistributedData(WireModel, extra="forbid"):
    """Every reward of the round is in the ledger."""

    round_id: str
    pot: Sats
    fee: Sats
    rewards: Sats
    carry_out: Sats
    distributed_at: Timestamp


class DistributionStoppedData(WireModel, extra="forbid"):
    """RoundClosed and the ledger disagree: nothing was paid, an admin must look."""

    round_id: str
    reason: str
    stopped_at: Timestamp


class SettlementUpdatedData(WireModel, extra="forbid"):
    """The settlement transaction of a round moved on."""

    round_id: str
    txid: str
    state: Literal["signed", "broadcast", "seen", "mined", "final", "failed"]


class DepositData(WireModel, extra="forbid"):
    """A deposit was credited, or taken back after a reorganisation."""

    deposit_id: str
    user_id: UUID
    txid: str
    vout: int
    amount: PositiveSats
    generation: int
    block_height: int | None
    block_hash: str | None


class WithdrawalUpdatedData(WireModel, extra="forbid"):
    """A withdrawal moved on."""

    withdrawal_id: UUID
    user_id: UUID
    amount: PositiveSats
    state: str
    txid: str | None


class TransferPostedData(WireModel, extra="forbid"):
    """Money moved between two users."""

    transaction_id: str
    sender: UUID
    recipient: UUID
    amount: PositiveSats
    memo: str | None
    posted_at: Timestamp


EVENTS: dict[str, type[WireModel]] = {
    STAKE_HELD: StakesHeldData,
    STAKE_REJECTED: StakesRejectedData,
    STAKE_REFUNDED: StakesRefundedData,
    REWARDS_DISTRIBUTED: RewardsDistributedData,
    DISTRIBUTION_STOPPED: DistributionStoppedData,
    SETTLEMENT_UPDATED: SettlementUpdatedData,
    DEPOSIT_CREDITED: DepositData,
    DEPOSIT_REVERSED: DepositData,
    WITHDRAWAL_UPDATED: WithdrawalUpdatedData,
    TRANSFER_POSTED: TransferPostedData,
}

_AUDIENCES = {
    STAKE_HELD: INTERNAL,
    STAKE_REJECTED: INTERNAL,
    STAKE_REFUNDED: "rows:voterId",
    DISTRIBUTION_STOPPED: INTERNAL,
}


def about_round(event_type: str, round_id: str, data: WireModel) -> NewEvent:
    """Any event of a round's stakes, rewards or settlement."""
    return NewEvent(event_type, round_id, data, _AUDIENCES.get(event_type, PUBLIC))


def about_user(event_type: str, subject: str, data: WireModel, *users: UUID) -> NewEvent:
    """An event that only these users may see."""
    return NewEvent(event_type, subject, data, " ".join(str(user) for user in users))
