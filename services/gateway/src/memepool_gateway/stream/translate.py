"""From the services' events to what clients see. An event's audience decides who sees it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from memepool_common.events import Event
from memepool_common.events.envelope import INTERNAL, PUBLIC, TYPE_PREFIX
from memepool_common.web.model import Sats, WireModel
from memepool_gateway.stream import models
from memepool_gateway.stream.store import Audience, Draft

ROWS = "rows:"
VOTE_COUNTED = "memepool.rounds.vote.counted.v1"
VOTE_REJECTED = "memepool.rounds.vote.rejected.v1"
ROUND_CLOSED = "memepool.rounds.round.closed.v1"
TALLY = "votes.tally"
GAP = "gap"

MODELS: dict[str, type[WireModel]] = {
    "memepool.content.job.updated.v1": models.JobUpdated,
    "memepool.content.meme.processing.v1": models.MemeProcessing,
    "memepool.content.meme.published.v1": models.MemePublished,
    "memepool.content.meme.rejected.v1": models.MemeRejected,
    "memepool.content.meme.removed.v1": models.MemeRemoved,
    "memepool.payments.deposit.credited.v1": models.DepositNews,
    "memepool.payments.deposit.reversed.v1": models.DepositNews,
    "memepool.payments.settlement.updated.v1": models.SettlementUpdated,
    "memepool.payments.stake.refunded.v1": models.StakeRefunded,
    "memepool.payments.transfer.posted.v1": models.TransferPosted,
    "memepool.payments.withdrawal.updated.v1": models.WithdrawalUpdated,
    "memepool.rounds.block.connected.v1": models.BlockNews,
    "memepool.rounds.block.disconnected.v1": models.BlockNews,
    "memepool.rounds.meme.submitted.v1": models.MemeSubmitted,
    "memepool.rounds.meme.withdrawn.v1": models.MemeWithdrawn,
    ROUND_CLOSED: models.RoundClosed,
    "memepool.rounds.round.finality.v1": models.RoundFinality,
    "memepool.rounds.round.opened.v1": models.RoundOpened,
    "memepool.rounds.round.settled.v1": models.RoundSettled,
    VOTE_COUNTED: models.VoteOutcome,
    VOTE_REJECTED: models.VoteOutcome,
}
"""What is told of each event, by the event's type. Other events are not for clients."""

_VOTE_STATES = {VOTE_COUNTED: "counted", VOTE_REJECTED: "rejected"}


class Tallies(WireModel):
    """The memes that a batch of votes changed, as columns."""

    content_id: list[UUID]
    stakes: list[Sats]
    backers: list[int]


class CountedVotes(WireModel):
    """What the tally needs of a batch of counted votes."""

    round_id: str
    sequence: list[int]
    tallies: Tallies
    pot: Sats


def name_of(event_type: str) -> str:
    """The name on the stream: `memepool.rounds.round.opened.v1` is `round.opened`."""
    _service, *name, _version = event_type.removeprefix(TYPE_PREFIX).split(".")
    return ".".join(name)


def drafts_of(event: Event) -> list[Draft]:
    """What clients are told of an event; nothing when it is internal.

    Raises:
        ValueError: it is not of the shape that its type promises.
    """
    model = MODELS.get(event.type)
    if model is None or event.audience == INTERNAL:
        return []
    name = name_of(event.type)
    if event.audience.startswith(ROWS):
        state = {"state": _VOTE_STATES.get(event.type)}
        return [
            draft(name, frozenset({owner}), model.model_validate(row | state))
            for owner, row in _rows(event.data, event.audience.removeprefix(ROWS))
        ]
    if event.type in _VOTE_STATES:
        raise ValueError("votes are told to their voters only")
    return [draft(name, _audience(event.audience), model.model_validate(event.data))]


def draft(name: str, audience: Audience, model: WireModel) -> Draft:
    """A draft of a model."""
    return Draft(name, audience, model.model_dump_json(by_alias=True).encode())


def _audience(audience: str) -> Audience:
    if audience == PUBLIC:
        return None
    users = frozenset(UUID(user) for user in audience.split())
    if not users:
        raise ValueError("an audience of nobody")
    return users


def _rows(data: dict[str, Any], column: str) -> list[tuple[UUID, dict[str, Any]]]:
    """The rows of a batch that travels as columns, each with the user whom it belongs to."""
    owners = data.get(column)
    if not isinstance(owners, list):
        raise ValueError(f"there is no column {column!r}")  # noqa: TRY004 - data, not code
    columns = {name: value for name, value in data.items() if isinstance(value, list)}
    whole = {name: value for name, value in data.items() if name not in columns}
    if any(len(column) != len(owners) for column in columns.values()):
        raise ValueError("the columns are not of one length")
    return [
        (UUID(owner), whole | {name: values[index] for name, values in columns.items()})
        for index, owner in enumerate(owners)
    ]


def event_names() -> Sequence[tuple[str, type[WireModel]]]:
    """Every event of the stream with its model, for its description."""
    told = {name_of(event_type): model for event_type, model in MODELS.items()}
    return sorted((told | {TALLY: models.VotesTally, GAP: models.Gap}).items())
