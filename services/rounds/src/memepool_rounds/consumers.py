"""Events in. Each handler reads only the fields it needs, from whatever else there is."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import orjson
from pydantic import Field

from memepool_common.db import Session, Statement
from memepool_common.events import Event, Subscription
from memepool_common.web.model import Sats, Timestamp, WireModel
from memepool_rounds.store import projections, votes
from memepool_rounds.store.projections import Meme
from memepool_rounds.store.results import Summary
from memepool_rounds.use_cases.entering import remove_memes
from memepool_rounds.use_cases.rejecting import reject_refused
from memepool_rounds.use_cases.settling import note_settlement, refund, settle, stop

STAKES_QUEUE: Final = "rounds.stakes"
STAKE_HELD: Final = "memepool.payments.stake.held.v1"
STAKES_BATCHES_MAX: Final = 8
STAKES_PACE_S: Final = 0.004
WHOLE_ROUND: Final = "round_refunded"
"""Payments' reason for a refund when the round as a whole is refunded."""
_Height = Field(pattern=r"^[0-9]{1,10}$")


class StakesRejected(WireModel):
    vote_id: list[UUID]
    reason: list[str]


class StakesRefunded(WireModel):
    round_id: str = _Height
    reason: str


class Distributed(WireModel):
    round_id: str = _Height
    pot: Sats
    fee: Sats
    rewards: Sats
    carry_out: Sats
    distributed_at: Timestamp


class Stopped(WireModel):
    round_id: str = _Height
    reason: str


class SettlementUpdated(WireModel):
    round_id: str = _Height
    txid: str = Field(pattern="^[0-9a-f]{64}$")


class MemePublished(WireModel):
    content_id: UUID
    creator_id: UUID
    version: int
    sha256: str


class MemeRemoved(WireModel):
    content_id: UUID
    creator_id: UUID


class User(WireModel):
    id: UUID
    suspended: bool


async def on_stakes_held(session: Session | Statement, events: Sequence[Event]) -> None:
    """All batches that arrived together are counted as one. PostgreSQL reads them: what it cannot
    read is poison."""
    held = [orjson.dumps(event.data).decode() for event in events]
    await votes.count(session, held, datetime.now(UTC))


async def on_stakes_rejected(session: Session, events: Sequence[Event]) -> None:
    refused: dict[UUID, str] = {}
    for event in events:
        batch = StakesRejected.model_validate(event.data)
        refused |= dict(zip(batch.vote_id, batch.reason, strict=True))
    await reject_refused(session, list(refused), list(refused.values()))


async def on_meme_published(session: Session, events: Sequence[Event]) -> None:
    newest: dict[UUID, Meme] = {}
    for event in events:
        data = MemePublished.model_validate(event.data)
        seen = newest.get(data.content_id)
        if seen is None or seen.revision < event.version:
            newest[data.content_id] = Meme(
                data.content_id, data.creator_id, data.version, data.sha256, False, event.version
            )
    await projections.save_memes(session, list(newest.values()))


async def on_meme_removed(session: Session, events: Sequence[Event]) -> None:
    gone = {}
    for event in events:
        data = MemeRemoved.model_validate(event.data)
        gone[data.content_id] = Meme(data.content_id, data.creator_id, 0, "", True, event.version)
    await projections.save_memes(session, list(gone.values()))
    await remove_memes(session, list(gone), datetime.now(UTC))


async def on_user(session: Session, events: Sequence[Event]) -> None:
    for event in sorted(events, key=lambda each: each.subject):
        user = User.model_validate(event.data)
        await projections.save_account(session, user.id, event.version, suspended=user.suspended)


async def on_rewards_distributed(session: Session, events: Sequence[Event]) -> None:
    for event in events:
        told = Distributed.model_validate(event.data)
        sums = Summary(told.pot, told.fee, told.rewards, told.carry_out)
        await settle(session, int(told.round_id), sums, told.distributed_at)


async def on_stakes_refunded(session: Session, events: Sequence[Event]) -> None:
    """Single stakes go back because a vote or a meme left; a whole round's only by an admin."""
    for event in events:
        told = StakesRefunded.model_validate(event.data)
        if told.reason == WHOLE_ROUND:
            await refund(session, int(told.round_id), event.time)


async def on_distribution_stopped(session: Session, events: Sequence[Event]) -> None:
    for event in events:
        told = Stopped.model_validate(event.data)
        await stop(session, int(told.round_id), told.reason)


async def on_settlement_updated(session: Session, events: Sequence[Event]) -> None:
    for event in events:
        told = SettlementUpdated.model_validate(event.data)
        await note_settlement(session, int(told.round_id), told.txid, event.time)


SUBSCRIPTIONS: Final = (
    Subscription(
        STAKES_QUEUE,
        {
            STAKE_HELD: on_stakes_held,
            "memepool.payments.stake.rejected.v1": on_stakes_rejected,
        },
        batch_max=STAKES_BATCHES_MAX,
        pace_s=STAKES_PACE_S,
        one_statement={STAKE_HELD: on_stakes_held},
    ),
    Subscription(
        "rounds.projections",
        {
            "memepool.content.meme.published.v1": on_meme_published,
            "memepool.content.meme.removed.v1": on_meme_removed,
            "memepool.auth.user.registered.v1": on_user,
            "memepool.auth.user.updated.v1": on_user,
        },
    ),
    Subscription(
        "rounds.settlement",
        {
            "memepool.payments.rewards.distributed.v1": on_rewards_distributed,
            "memepool.payments.distribution.stopped.v1": on_distribution_stopped,
            "memepool.payments.stake.refunded.v1": on_stakes_refunded,
            "memepool.payments.settlement.updated.v1": on_settlement_updated,
        },
    ),
)
