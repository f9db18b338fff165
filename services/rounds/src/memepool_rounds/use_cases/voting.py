"""Placing votes: many requests, one transaction, one event per round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from memepool_common.db import Session
from memepool_common.events import NewEvent, outbox
from memepool_rounds import events
from memepool_rounds.domain.errors import (
    KeyReused,
    MemeNotInRound,
    OwnMeme,
    RoundNotFound,
    RoundNotOpen,
    RoundsError,
    StakeTooSmall,
    Suspended,
    VotesFull,
)
from memepool_rounds.domain.rounds import RoundState
from memepool_rounds.store import projections, rounds, submissions, votes
from memepool_rounds.store.rounds import StoredRound
from memepool_rounds.store.votes import Keyed, NewVote, StoredVote
from memepool_rounds.use_cases.rounds import open_round


@dataclass(frozen=True, slots=True)
class PlaceVote:
    """A vote as it was asked for. Without a round it is for the one that is open; without an
    amount, for the policy's minimum stake. The hash covers the request as it was sent."""

    id: UUID
    round_id: int | None
    content_id: UUID
    voter_id: UUID
    amount: int | None
    key: str | None
    request_hash: bytes


@dataclass(frozen=True, slots=True)
class _Rules:
    """What one batch is judged by."""

    rounds: Mapping[int | None, StoredRound]
    creators: Mapping[tuple[int, UUID], UUID]
    suspended: set[UUID]
    room: dict[int, int]


async def place_votes(
    session: Session, requests: Sequence[PlaceVote], *, votes_max: int, now: datetime
) -> list[StoredVote | Exception]:
    """Place what may be placed; for each request its vote, or why there is none.

    A key that was used before answers its vote as it stands now, whatever has become of the round.
    """
    known = await votes.by_keys(session, _keys(requests))
    fresh = [request for request in requests if _key(request) not in known]
    rules = await _rules(session, fresh, votes_max) if fresh else None
    refused: dict[UUID, RoundsError] = {}
    accepted: list[NewVote] = []
    for request in fresh:
        try:
            accepted.append(_judge(request, rules))
        except RoundsError as error:
            refused[request.id] = error
    placed = await votes.insert(session, accepted, now) if accepted else {}
    overtaken = [request for request in fresh if request.id not in placed.keys() | refused.keys()]
    known |= await votes.by_keys(session, _keys(overtaken))
    await outbox.append(session, _placed_events(list(placed.values()), now))
    return [
        placed.get(request.id) or refused.get(request.id) or _replay(request, known)
        for request in requests
    ]


async def _rules(session: Session, requests: Sequence[PlaceVote], votes_max: int) -> _Rules:
    """Lock the rounds against being closed, then read what the votes are judged by."""
    asked: dict[int | None, StoredRound] = {}
    if any(request.round_id is None for request in requests):
        asked[None] = await open_round(session, " for share")
    named = [request.round_id for request in requests if request.round_id is not None]
    for found in (await rounds.by_ids(session, named, " for share")).values():
        asked[found.id] = found
    ids = {each.id for each in asked.values()}
    entered = await submissions.of_rounds(session, sorted(ids))
    return _Rules(
        rounds=asked,
        creators={
            (each.round_id, each.content_id): each.creator_id
            for held in entered.values()
            for each in held
        },
        suspended=await projections.suspended(session, [each.voter_id for each in requests]),
        room={each: votes_max - await votes.spread(session, each) for each in sorted(ids)},
    )


def _judge(request: PlaceVote, rules: _Rules | None) -> NewVote:
    target = rules.rounds.get(request.round_id) if rules else None
    if rules is None or target is None:
        raise RoundNotFound(f"There is no round {request.round_id}.")
    if target.state is not RoundState.OPEN:
        raise RoundNotOpen(f"Round {target.id} is {target.state}; it takes no more votes.")
    creator_id = rules.creators.get((target.id, request.content_id))
    if creator_id is None:
        raise MemeNotInRound(f"Meme {request.content_id} is not in round {target.id}.")
    if creator_id == request.voter_id:
        raise OwnMeme("Nobody votes for a meme of their own.")
    if request.voter_id in rules.suspended:
        raise Suspended("This account is suspended.")
    amount = target.policy.min_stake if request.amount is None else request.amount
    if amount < target.policy.min_stake:
        raise StakeTooSmall(f"The least stake in this round is {target.policy.min_stake} satoshis.")
    if rules.room[target.id] <= 0:
        raise VotesFull(f"Round {target.id} has as many votes as a round can have.")
    rules.room[target.id] -= 1
    return NewVote(
        id=request.id,
        round_id=target.id,
        content_id=request.content_id,
        voter_id=request.voter_id,
        amount=amount,
        key=request.key,
        request_hash=request.request_hash if request.key is not None else None,
    )


def _replay(request: PlaceVote, known: Mapping[tuple[UUID, str], Keyed]) -> StoredVote | Exception:
    keyed = known[request.voter_id, request.key or ""]
    if keyed.request_hash != request.request_hash:
        return KeyReused("This Idempotency-Key was used for another vote; use a new key.")
    return keyed.vote


def _keys(requests: Sequence[PlaceVote]) -> list[tuple[UUID, str]]:
    return [key for key in map(_key, requests) if key is not None]


def _key(request: PlaceVote) -> tuple[UUID, str] | None:
    return None if request.key is None else (request.voter_id, request.key)


def _placed_events(placed: Sequence[StoredVote], now: datetime) -> list[NewEvent]:
    by_round: dict[int, list[StoredVote]] = {}
    for vote in sorted(placed, key=lambda each: each.sequence):
        by_round.setdefault(vote.round_id, []).append(vote)
    return [
        events.about_round(
            events.VOTE_PLACED,
            str(round_id),
            events.VotesPlacedData(
                round_id=str(round_id),
                vote_id=[vote.id for vote in batch],
                voter_id=[vote.voter_id for vote in batch],
                content_id=[vote.content_id for vote in batch],
                amount=[vote.amount for vote in batch],
                sequence=[vote.sequence for vote in batch],
                placed_at=now,
            ),
        )
        for round_id, batch in by_round.items()
    ]
