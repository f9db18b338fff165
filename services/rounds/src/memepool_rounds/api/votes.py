"""Votes. Placing one goes through the collector: what arrives together is one transaction."""

import hashlib
from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Request, Response

from memepool_common.collector import Collector
from memepool_common.ids import uuid7
from memepool_common.web.deps import Caller, IdempotencyKey, OptionalCaller, ReadSessionDep
from memepool_common.web.model import (
    PAGE_SIZE_DEFAULT,
    Cursor,
    Limit,
    Page,
    decode_cursor,
    encode_cursor,
)
from memepool_common.web.problem import Problem
from memepool_rounds.api.deps import RoundId, RoundText, VoteId, WaitSeconds
from memepool_rounds.api.models import Vote, VoteRequest
from memepool_rounds.api.waiting import VoteWaiter
from memepool_rounds.domain.errors import VoteNotFound
from memepool_rounds.domain.rounds import RoundState
from memepool_rounds.store import votes
from memepool_rounds.store.rounds import StoredRound
from memepool_rounds.store.votes import StoredVote
from memepool_rounds.use_cases.rounds import find_round
from memepool_rounds.use_cases.voting import PlaceVote

router = APIRouter(tags=["rounds"])
VoteCollector = Collector[PlaceVote, StoredVote]


def _collector(request: Request) -> VoteCollector:
    collector: VoteCollector = request.app.state.collector
    return collector


def _waiter(request: Request) -> VoteWaiter:
    waiter: VoteWaiter = request.app.state.waiter
    return waiter


@router.post(
    "/rounds/{roundId}/vote",
    status_code=202,
    response_model=Vote,
    responses={201: {"model": Vote, "description": "Counted or rejected already"}},
)
async def place_vote(
    round_text: RoundText,
    round_id: RoundId,
    body: VoteRequest,
    caller: Caller,
    wait_s: WaitSeconds,
    collector: Annotated[VoteCollector, Depends(_collector)],
    waiter: Annotated[VoteWaiter, Depends(_waiter)],
    key: IdempotencyKey = None,
) -> Response:
    """Stake on a meme. 202 while payments has not answered; with `Prefer: wait=2` the outcome is
    waited for, and 201 says counted or rejected."""
    vote = await collector.submit(
        PlaceVote(
            id=uuid7(),
            round_id=round_id,
            content_id=body.content_id,
            voter_id=caller.user_id,
            amount=body.amount,
            key=key,
            request_hash=_fingerprint(round_text, body),
        )
    )
    headers = {"Location": f"/rounds/{vote.round_id}/votes/{vote.id}"}
    if wait_s > 0:
        headers["Preference-Applied"] = f"wait={wait_s:.0f}"
        if vote.state == "pending":
            vote = await waiter.wait(vote.id, wait_s) or vote
    return Response(
        Vote.of(vote).model_dump_json(),
        status_code=202 if vote.state == "pending" else 201,
        headers=headers,
        media_type="application/json",
    )


@router.get("/rounds/{roundId}/votes")
async def list_votes(
    round_id: RoundId,
    caller: OptionalCaller,
    session: ReadSessionDep,
    limit: Limit = PAGE_SIZE_DEFAULT,
    cursor: Cursor = None,
) -> Page[Vote]:
    """Your votes, in the order of placement; everybody's once the round has closed."""
    after = decode_cursor(cursor, int)[0] if cursor else 0
    stored = await find_round(session, round_id)
    voter_id = None
    if not _public(stored):
        if caller is None:
            detail = f"Round {stored.id} is {stored.state}: only your own votes, with a token."
            raise Problem(401, "token_required", detail, headers={"WWW-Authenticate": "Bearer"})
        voter_id = caller.user_id
    found = await votes.page(session, stored.id, voter_id=voter_id, after=after, limit=limit + 1)
    shown = found[:limit]
    more = encode_cursor(shown[-1].sequence) if len(found) > limit else None
    return Page(items=[Vote.of(each) for each in shown], next_cursor=more)


@router.get("/rounds/{roundId}/votes/{voteId}")
async def get_vote(
    round_id: RoundId, vote_id: VoteId, caller: OptionalCaller, session: ReadSessionDep
) -> Vote:
    """A vote of yours; anybody's once the round has closed."""
    stored = await find_round(session, round_id)
    vote = await votes.one(session, stored.id, vote_id)
    own = vote is not None and caller is not None and vote.voter_id == caller.user_id
    if vote is None or not (own or _public(stored)):
        raise VoteNotFound(f"There is no vote {vote_id} in round {stored.id} that you may see.")
    return Vote.of(vote)


def _public(stored: StoredRound) -> bool:
    return stored.state not in (RoundState.OPEN, RoundState.CLOSING)


def _fingerprint(round_text: str, body: VoteRequest) -> bytes:
    """Of the request as sent: `current` stays `current`, whichever round that is by now."""
    parts: tuple[str, UUID, int | None] = (round_text, body.content_id, body.amount)
    return hashlib.sha256(orjson.dumps(parts)).digest()
