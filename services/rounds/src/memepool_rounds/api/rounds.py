"""Rounds, their results, and what proves them."""

from collections.abc import Sequence

from fastapi import APIRouter

from memepool_common.db import Session
from memepool_common.web.deps import ReadSessionDep
from memepool_common.web.model import (
    PAGE_SIZE_DEFAULT,
    Cursor,
    Limit,
    Page,
    decode_cursor,
    encode_cursor,
)
from memepool_common.web.problem import not_built_yet
from memepool_rounds.api.deps import RoundId, VoteId
from memepool_rounds.api.models import Bundle, InclusionProof, Results, Round, pot_of
from memepool_rounds.domain.errors import ResultsNotReady, VoteNotFound
from memepool_rounds.store import results, rounds, submissions, votes
from memepool_rounds.store.rounds import StoredRound
from memepool_rounds.use_cases.rounds import find_round

router = APIRouter(tags=["rounds"])
_NOT_BUILT = {"x-not-built-yet": True}


@router.get("/rounds")
async def list_rounds(
    session: ReadSessionDep, limit: Limit = PAGE_SIZE_DEFAULT, cursor: Cursor = None
) -> Page[Round]:
    """All rounds, newest first."""
    below = decode_cursor(cursor, int)[0] if cursor else None
    found = await rounds.newest(session, below=below, limit=limit + 1)
    shown = found[:limit]
    more = encode_cursor(shown[-1].id) if len(found) > limit else None
    return Page(items=await _views(session, shown), next_cursor=more)


@router.get("/rounds/{roundId}")
async def get_round(round_id: RoundId, session: ReadSessionDep) -> Round:
    """A round: its id is the height of the block that opened it; `current` is the open one."""
    (view,) = await _views(session, [await find_round(session, round_id)])
    return view


@router.get("/rounds/{roundId}/results")
async def get_results(round_id: RoundId, session: ReadSessionDep) -> Results:
    """Who gets what of a tallied round, and why."""
    stored = await find_round(session, round_id)
    return Results.of(stored, await _result(session, stored))


@router.get("/rounds/{roundId}/bundle", openapi_extra=_NOT_BUILT)
async def get_bundle(round_id: RoundId, session: ReadSessionDep) -> Bundle:
    """Everything needed to recompute the round offline."""
    await _result(session, await find_round(session, round_id))
    raise not_built_yet("getBundle")


@router.get("/rounds/{roundId}/proofs/{voteId}", openapi_extra=_NOT_BUILT)
async def get_proof(round_id: RoundId, vote_id: VoteId, session: ReadSessionDep) -> InclusionProof:
    """That a vote is included under the round's published root."""
    stored = await find_round(session, round_id)
    await _result(session, stored)
    if await votes.one(session, stored.id, vote_id) is None:
        raise VoteNotFound(f"There is no vote {vote_id} in round {stored.id}.")
    raise not_built_yet("getProof")


async def _views(session: Session, stored: Sequence[StoredRound]) -> list[Round]:
    ids = [each.id for each in stored]
    entered = await submissions.of_rounds(session, ids)
    live = await submissions.pot(session, ids)
    tallied = await results.summaries(session, ids)
    return [Round.of(each, entered[each.id], pot_of(each, tallied, live)) for each in stored]


async def _result(session: Session, stored: StoredRound) -> results.StoredResult:
    result = await results.of_round(session, stored.id)
    if result is None:
        raise ResultsNotReady(f"Round {stored.id} is {stored.state}: it has no results yet.")
    return result
