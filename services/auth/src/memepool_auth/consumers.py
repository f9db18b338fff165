"""Events of other services, for the statistics of users: just the fields that are counted."""

from collections.abc import Sequence
from typing import Self
from uuid import UUID

from pydantic import model_validator

from memepool_auth.store import stats
from memepool_common.db import Session
from memepool_common.events import Event, Subscription
from memepool_common.web.model import PositiveSats, WireModel


class _Meme(WireModel):
    content_id: UUID
    creator_id: UUID


class _Submission(WireModel):
    creator_id: UUID


class _Stakes(WireModel):
    """Votes as columns: the same position in every list is the same vote."""

    vote_id: list[UUID]
    voter_id: list[UUID]
    amount: list[PositiveSats]

    @model_validator(mode="after")
    def _even(self) -> Self:
        if not len(self.vote_id) == len(self.voter_id) == len(self.amount):
            raise ValueError("the columns differ in length")
        return self


class _Place(WireModel):
    creator_id: UUID
    rank: int


class _Reward(WireModel):
    recipient: UUID
    amount: PositiveSats


class _Results(WireModel):
    round_id: str
    ranking: list[_Place]
    rewards: list[_Reward]


class _Settled(WireModel):
    round_id: str
    refunded: bool = False


async def _on_published(session: Session, events: Sequence[Event]) -> None:
    memes = [_Meme.model_validate(event.data) for event in events]
    ids, creators = [meme.content_id for meme in memes], [meme.creator_id for meme in memes]
    await stats.count_uploads(session, ids, creators)


async def _on_submitted(session: Session, events: Sequence[Event]) -> None:
    creators = [_Submission.model_validate(event.data).creator_id for event in events]
    await stats.count_submissions(session, creators)


async def _on_counted(session: Session, events: Sequence[Event]) -> None:
    await stats.count_votes(session, *_columns(events))


async def _on_refunded(session: Session, events: Sequence[Event]) -> None:
    await stats.take_back_stakes(session, *_columns(events))


async def _on_closed(session: Session, events: Sequence[Event]) -> None:
    for event in events:
        results = _Results.model_validate(event.data)
        winners = [place.creator_id for place in results.ranking if place.rank == 1]
        recipients = [line.recipient for line in results.rewards]
        amounts = [line.amount for line in results.rewards]
        await stats.close_round(session, results.round_id, winners, recipients, amounts)


async def _on_settled(session: Session, events: Sequence[Event]) -> None:
    for event in events:
        end = _Settled.model_validate(event.data)
        await stats.settle_round(session, end.round_id, refunded=end.refunded)


def _columns(events: Sequence[Event]) -> tuple[list[UUID], list[UUID], list[int]]:
    batches = [_Stakes.model_validate(event.data) for event in events]
    return (
        [vote for batch in batches for vote in batch.vote_id],
        [voter for batch in batches for voter in batch.voter_id],
        [amount for batch in batches for amount in batch.amount],
    )


STATS = Subscription(
    queue="auth.stats",
    handlers={
        "memepool.content.meme.published.v1": _on_published,
        "memepool.rounds.meme.submitted.v1": _on_submitted,
        "memepool.rounds.vote.counted.v1": _on_counted,
        "memepool.payments.stake.refunded.v1": _on_refunded,
        "memepool.rounds.round.closed.v1": _on_closed,
        "memepool.rounds.round.settled.v1": _on_settled,
    },
)
