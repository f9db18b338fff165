"""Votes. Placing one goes through the collector: what arrives together is one transaction."""

import asyncio
import hashlib
from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Request, Response

from memepool_common.collector import Collector
from memepool_common.ids import uuid7
from memepool_common.web.deps import (
    TOKEN_OPTIONAL,
    Caller,
    IdempotencyKey,
    OptionalCaller,
    ReadSessionDep,
)
from memepool_common.web.fast import Answer, FastPost, PlainRequest
from memepool_common.web.model import (
    PAGE_SIZE_DEFAULT,
    Cursor,
    Limit,
    Page,
    cut_page,
    decode_cursor,
    rfc3339,
)
from memepool_common.web.money import MoneyRoute
from memepool_common.web.problem import Problem
from memepool_rounds.api.deps import RoundId, RoundText, VoteId, WaitSeconds
from memepool_rounds.api.models import Vote, VoteRequest
from memepool_rounds.api.waiting import VoteWaiter
from memepool_rounds.domain.errors import VoteNotFound
from memepool_rounds.domain.rounds import RoundState
from memepool_rounds.store import votes
from memepool_rounds.store.rounds import StoredRound
from memepool_rounds.store.votes import PlaceVote, StoredVote
from memepool_rounds.use_cases.rounds import find_round

router = APIRouter(tags=["rounds"], route_class=MoneyRoute)
PLACE_PATH = "/rounds/{roundId}/vote"


def _waiter(request: Request) -> VoteWaiter:
    waiter: VoteWaiter = request.app.state.waiter
    return waiter


@router.post(
    PLACE_PATH,
    status_code=202,
    response_model=Vote,
    responses={201: {"model": Vote, "description": "Counted or rejected already"}},
)
async def place_vote(
    request: Request,
    round_text: RoundText,
    body: VoteRequest,
    caller: Caller,
    wait_s: WaitSeconds,
    waiter: Annotated[VoteWaiter, Depends(_waiter)],
    key: IdempotencyKey = None,
) -> Response:
    """Stake on a meme. 202 while payments has not answered; with `Prefer: wait=2` the outcome is
    waited for, and 201 says counted or rejected."""
    plain = PlainRequest(request.app, (round_text,), caller, body, key)
    vote = await _place(plain)
    headers = {}
    if wait_s > 0:
        headers["Preference-Applied"] = f"wait={wait_s:.0f}"
        if vote.state == "pending":
            vote = await waiter.wait(vote.id, wait_s) or vote
    answer = _answer(vote)
    headers["Location"] = answer.location
    return Response(answer.body, answer.status, headers, media_type="application/json")


def _place(request: PlainRequest[VoteRequest]) -> asyncio.Future[StoredVote]:
    (round_text,), body = request.path, request.body
    # The fingerprint is of the request as sent: `current` stays that, whichever round it is by now.
    sent: tuple[str, UUID, int | None] = (round_text, body.content_id, body.amount)
    collector: Collector[PlaceVote, StoredVote] = request.app.state.collector
    return collector.enqueue(
        PlaceVote(
            id=uuid7(),
            round_id=None if round_text == "current" else int(round_text),
            content_id=body.content_id,
            voter_id=request.caller.user_id,
            amount=body.amount,
            key=request.key,
            request_hash=hashlib.sha256(orjson.dumps(sent)).digest(),
        )
    )


def _answer(vote: StoredVote) -> Answer:
    """The model `Vote` in JSON, written out: this is the hot path."""
    body = {
        "id": vote.id,
        "roundId": str(vote.round_id),
        "contentId": vote.content_id,
        "voterId": vote.voter_id,
        "amount": vote.amount,
        "state": vote.state,
        "reason": vote.reason,
        "sequence": vote.sequence,
        "placedAt": rfc3339(vote.placed_at),
    }
    status = 202 if vote.state == "pending" else 201
    return Answer(status, orjson.dumps(body), f"/rounds/{vote.round_id}/votes/{vote.id}")


FAST_PLACE = FastPost(
    template=PLACE_PATH,
    pattern="/rounds/(current|0|[1-9][0-9]{0,9})/vote",
    body=VoteRequest,
    act=_place,
    answer=_answer,
)
"""Votes without `Prefer` or anything odd do not pass through FastAPI."""


@router.get("/rounds/{roundId}/votes", openapi_extra=TOKEN_OPTIONAL)
async def list_votes(
    round_id: RoundId,
    caller: OptionalCaller,
    session: ReadSessionDep,
    limit: Limit = PAGE_SIZE_DEFAULT,
    cursor: Cursor = None,
) -> Page[Vote]:
    """Your votes, in the order of placement; everybody's once the round has closed."""
    after = decode_cursor(cursor, int)[0] if cursor is not None else 0
    stored = await find_round(session, round_id)
    voter_id = None
    if not _public(stored):
        if caller is None:
            detail = f"Round {stored.id} is {stored.state}: only your own votes, with a token."
            raise Problem(401, "token_required", detail, headers={"WWW-Authenticate": "Bearer"})
        voter_id = caller.user_id
    found = await votes.page(session, stored.id, voter_id=voter_id, after=after, limit=limit + 1)
    shown, more = cut_page(found, limit, lambda each: (each.sequence,))
    return Page(items=[Vote.of(each) for each in shown], next_cursor=more)


@router.get("/rounds/{roundId}/votes/{voteId}", openapi_extra=TOKEN_OPTIONAL)
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
