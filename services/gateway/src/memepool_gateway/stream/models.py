"""What clients of `GET /events` see: public models, never the events between services.

Each model takes from an event just the fields that it names, so it is also the tolerant reader of
that event.
"""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from memepool_common.web.model import Sats, Timestamp, WireModel


class BlockNews(WireModel):
    """A block joined the active chain, or left it."""

    height: int
    hash: str


class RoundOpened(WireModel):
    """A round opened."""

    round_id: str
    block_height: int
    block_hash: str
    policy_id: str
    min_stake: Sats
    opened_at: Timestamp


class RankedMeme(WireModel):
    """A meme's place in a round."""

    content_id: UUID
    creator_id: UUID
    stakes: Sats
    backers: int
    rank: int


class RoundClosed(WireModel):
    """A round was tallied. Its rewards are at `GET /rounds/{id}/results`."""

    round_id: str
    closing_block_height: int
    closing_block_hash: str
    pot: Sats
    carry_in: Sats
    fee: Sats
    carry_out: Sats
    ranking: list[RankedMeme]
    closed_at: Timestamp


class RoundSettled(WireModel):
    """The rewards of a round are on the balances."""

    round_id: str
    pot: Sats
    fee: Sats
    carry_out: Sats
    settled_at: Timestamp


class RoundFinality(WireModel):
    """How sure the block is that closed a round."""

    round_id: str
    closing_block_hash: str
    finality: str


class SettlementUpdated(WireModel):
    """The settlement transaction of a round moved on."""

    round_id: str
    txid: str
    state: str


class MemeSubmitted(WireModel):
    """A meme entered a round."""

    round_id: str
    content_id: UUID
    creator_id: UUID
    submitted_at: Timestamp


class MemeWithdrawn(WireModel):
    """A meme left a round; its stakes go back."""

    round_id: str
    content_id: UUID
    creator_id: UUID
    reason: str
    withdrawn_at: Timestamp


class MemePublished(WireModel):
    """A meme is ready, or its title, tags or image changed."""

    content_id: UUID
    creator_id: UUID
    title: str
    description: str
    tags: list[str]
    version: int
    mime_type: str
    width: int
    height: int
    created_at: Timestamp
    updated_at: Timestamp


class MemeRemoved(WireModel):
    """A meme is gone."""

    content_id: UUID
    creator_id: UUID
    removed_at: Timestamp


class MemeProcessing(WireModel):
    """Your upload is being checked; `meme.published` or `meme.rejected` follows."""

    content_id: UUID
    started_at: Timestamp


class MemeRejected(WireModel):
    """Your upload did not become a meme, and why."""

    content_id: UUID
    code: str
    detail: str
    rejected_at: Timestamp


class JobUpdated(WireModel):
    """Your transformation went on."""

    job_id: UUID
    content_id: UUID
    state: str
    progress_percent: int
    error: str | None
    updated_at: Timestamp


class MemeTally(WireModel):
    """Where a meme stands."""

    content_id: UUID
    stakes: Sats
    backers: int


class VotesTally(WireModel):
    """Where the memes stand whose votes were counted since the last tally; at most 4 a second in a
    round. Of two, the one with the lower `sequence` is the earlier."""

    round_id: str
    sequence: int
    pot: Sats
    memes: list[MemeTally]


class VoteOutcome(WireModel):
    """What became of a vote of yours."""

    id: Annotated[UUID, Field(validation_alias="voteId")]
    round_id: str
    content_id: UUID
    amount: Sats
    state: Literal["counted", "rejected"]
    reason: str | None = None


class StakeRefunded(WireModel):
    """A stake of yours came back."""

    vote_id: UUID
    round_id: str
    content_id: UUID
    amount: Sats
    reason: str


class DepositNews(WireModel):
    """A deposit of yours was credited, or taken back after a reorganisation."""

    deposit_id: str
    txid: str
    vout: int
    amount: Sats
    block_height: int | None


class WithdrawalUpdated(WireModel):
    """A withdrawal of yours moved on."""

    withdrawal_id: UUID
    amount: Sats
    state: str
    txid: str | None


class TransferPosted(WireModel):
    """Money moved between you and another user."""

    transaction_id: str
    sender: UUID
    recipient: UUID
    amount: Sats
    memo: str | None
    posted_at: datetime


class Gap(WireModel):
    """What you missed cannot be told any more: read the present state again, then go on."""

    reason: Literal["history_gone"] = "history_gone"
