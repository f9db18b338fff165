"""Events in: tolerant models of the fields that payments reads, then one use case.

A column of a batch has as many values as every other; what breaks that is poison, not data.
"""

from collections.abc import Sequence
from functools import partial
from typing import Self
from uuid import UUID

import orjson
from pydantic import Field, model_validator

from memepool_chain.network import Network
from memepool_common.db import Session, Statement
from memepool_common.events import Event, Subscription
from memepool_common.web.model import PositiveSats, Sats, Timestamp, WireModel
from memepool_payments.domain.distribution import BASIS_POINTS, Plan
from memepool_payments.store import members
from memepool_payments.store import stakes as store
from memepool_payments.store.distributions import Recorded
from memepool_payments.store.stakes import Vote
from memepool_payments.use_cases import distribution, headers, stakes

VOTE_PLACED = "memepool.rounds.vote.placed.v1"
VOTE_REJECTED = "memepool.rounds.vote.rejected.v1"
MEME_WITHDRAWN = "memepool.rounds.meme.withdrawn.v1"
ROUND_CLOSED = "memepool.rounds.round.closed.v1"
BLOCK_CONNECTED = "memepool.rounds.block.connected.v1"
USER_REGISTERED = "memepool.auth.user.registered.v1"
USER_UPDATED = "memepool.auth.user.updated.v1"

STAKES_BATCHES_MAX = 4
STAKES_PACE_S = 0.004


class Votes(WireModel):
    """Votes as columns."""

    round_id: str
    vote_id: list[UUID]
    voter_id: list[UUID]
    content_id: list[UUID]
    amount: list[PositiveSats]

    @model_validator(mode="after")
    def _even(self) -> Self:
        columns = (self.vote_id, self.voter_id, self.content_id, self.amount)
        if len({len(column) for column in columns}) != 1:
            raise ValueError("the columns of a batch differ in length")
        return self

    def rows(self) -> list[Vote]:
        """The votes one by one."""
        columns = (self.vote_id, self.voter_id, self.content_id, self.amount)
        return [
            Vote(vote_id, self.round_id, voter_id, content_id, amount)
            for vote_id, voter_id, content_id, amount in zip(*columns, strict=True)
        ]


class MemeWithdrawn(WireModel):
    """A meme left its round."""

    round_id: str
    content_id: UUID


class Source(WireModel):
    """A carry-out that a round takes."""

    round_id: str
    amount: PositiveSats


class Line(WireModel):
    """One reward."""

    recipient: UUID
    amount: PositiveSats
    reason: str


class Ranked(WireModel):
    """A meme that ranks."""

    creator_id: UUID


class Policy(WireModel):
    """What payments checks of the pinned policy."""

    fee_bp: int = Field(strict=True, ge=0, le=BASIS_POINTS)


class RoundClosed(WireModel):
    """The tally and the whole reward table."""

    round_id: str
    policy: Policy
    counted_votes: int = Field(strict=True, ge=0)
    stakes: Sats
    carry_in: Sats
    carry_sources: list[Source]
    pot: Sats
    fee: Sats
    carry_out: Sats
    ranking: list[Ranked]
    rewards: list[Line]
    roots: dict[str, str]
    void: list[UUID]
    withdrawn: list[UUID]

    @model_validator(mode="after")
    def _distinct_sources(self) -> Self:
        if len({source.round_id for source in self.carry_sources}) != len(self.carry_sources):
            raise ValueError("a carry source is named twice")
        return self

    def recorded(self, fee_basis_points_max: int) -> Recorded:
        """The plan as payments keeps it; the fee has our own limit too."""
        plan = Plan(
            round_id=self.round_id,
            counted_votes=self.counted_votes,
            stakes=self.stakes,
            carry_in=self.carry_in,
            carry_sources={source.round_id: source.amount for source in self.carry_sources},
            pot=self.pot,
            fee=self.fee,
            fee_basis_points=min(self.policy.fee_bp, fee_basis_points_max),
            carry_out=self.carry_out,
            creators=frozenset(meme.creator_id for meme in self.ranking),
            rewards=sum(line.amount for line in self.rewards),
        )
        return Recorded(
            plan,
            [line.recipient for line in self.rewards],
            [line.amount for line in self.rewards],
            [line.reason for line in self.rewards],
            self.void,
            self.roots,
        )


class BlockConnected(WireModel):
    """A block that rounds follows; the header is all that payments believes, after checking it."""

    header: str = Field(pattern="^[0-9a-f]{160}$")


class User(WireModel):
    """A user as auth knows them."""

    id: UUID
    wallet_address: str
    suspended: bool
    created_at: Timestamp


async def on_votes_placed(session: Session | Statement, batch: Sequence[Event]) -> None:
    """Hold the stakes of all votes in the batch at once. PostgreSQL reads them: what it cannot
    read is poison."""
    await store.hold(session, [orjson.dumps(event.data).decode() for event in batch])


async def on_votes_rejected(session: Session, batch: Sequence[Event]) -> None:
    """Give back, or never take."""
    for event in batch:
        votes = Votes.model_validate(event.data)
        await stakes.reject(session, votes.round_id, votes.rows())


async def on_meme_withdrawn(session: Session, batch: Sequence[Event]) -> None:
    """Refuse later stakes, refund those held."""
    for event in batch:
        meme = MemeWithdrawn.model_validate(event.data)
        await stakes.withdraw_meme(session, meme.round_id, meme.content_id)


async def on_round_closed(
    session: Session, batch: Sequence[Event], *, fee_basis_points_max: int
) -> None:
    """Record the plan."""
    for event in batch:
        closed = RoundClosed.model_validate(event.data)
        await distribution.receive(session, closed.recorded(fee_basis_points_max), closed.withdrawn)


async def on_user(session: Session, batch: Sequence[Event]) -> None:
    """Take over the user's projection if it is news."""
    for event in batch:
        user = User.model_validate(event.data)
        await members.remember(
            session,
            user_id=user.id,
            wallet_address=user.wallet_address,
            suspended=user.suspended,
            version=event.version,
            created_at=user.created_at,
        )


async def on_block_connected(session: Session, batch: Sequence[Event], *, network: Network) -> None:
    """Add the headers to our own chain."""
    raw = [bytes.fromhex(BlockConnected.model_validate(event.data).header) for event in batch]
    await headers.add(session, network, raw)


def subscriptions(network: Network, fee_basis_points_max: int) -> list[Subscription]:
    """Every queue of payments, with what is done with its events.

    Facts about rounds are handled one to a transaction: each locks its round before balances,
    and a second one in the same transaction would lock a round after them.
    """
    on_closed = partial(on_round_closed, fee_basis_points_max=fee_basis_points_max)
    return [
        Subscription(
            "payments.stakes",
            {VOTE_PLACED: on_votes_placed},
            batch_max=STAKES_BATCHES_MAX,
            pace_s=STAKES_PACE_S,
            one_statement={VOTE_PLACED: on_votes_placed},
        ),
        Subscription(
            "payments.rounds",
            {
                VOTE_REJECTED: on_votes_rejected,
                MEME_WITHDRAWN: on_meme_withdrawn,
                ROUND_CLOSED: on_closed,
            },
            batch_max=1,
        ),
        Subscription(
            "payments.blocks", {BLOCK_CONNECTED: partial(on_block_connected, network=network)}
        ),
        Subscription(
            "payments.users", {USER_REGISTERED: on_user, USER_UPDATED: on_user}, batch_max=1
        ),
    ]
