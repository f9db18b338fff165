"""Rounds, their results, and what proves them."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse

from memepool_common.db import Session
from memepool_common.web.deps import ReadSessionDep
from memepool_common.web.model import (
    PAGE_SIZE_DEFAULT,
    Cursor,
    Limit,
    Page,
    cut_page,
    decode_cursor,
)
from memepool_rounds.api.deps import DatabaseDep, Leaf, RoundId, SettingsDep
from memepool_rounds.api.models import Results, Round, pot_of
from memepool_rounds.api.proof_models import Bundle, InclusionProof
from memepool_rounds.domain.errors import ResultsNotReady
from memepool_rounds.store import results, rounds, submissions
from memepool_rounds.store.rounds import StoredRound
from memepool_rounds.use_cases.proving import inputs_of, prove_reward, prove_vote, write_bundle
from memepool_rounds.use_cases.rounds import find_round

router = APIRouter(tags=["rounds"])


@router.get("/rounds")
async def list_rounds(
    session: ReadSessionDep, limit: Limit = PAGE_SIZE_DEFAULT, cursor: Cursor = None
) -> Page[Round]:
    """All rounds, newest first."""
    below = decode_cursor(cursor, int)[0] if cursor is not None else None
    found = await rounds.newest(session, below=below, limit=limit + 1)
    shown, more = cut_page(found, limit, lambda each: (each.id,))
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


@router.get(
    "/rounds/{roundId}/bundle",
    response_model=Bundle,
    responses={304: {"description": "You have it: the ETag is the bundle's SHA-256"}},
)
async def get_bundle(
    round_id: RoundId,
    database: DatabaseDep,
    settings: SettingsDep,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Everything needed to recompute the round offline, once it is tallied; it never changes."""
    async with database.read() as session:
        stored = await find_round(session, round_id)
        result = await _result(session, stored)
        inputs = await inputs_of(session, stored, settings.chain.network)
    etag = f'"{result.bundle_sha256}"'
    headers = {"ETag": etag, "Cache-Control": "public, max-age=31536000, immutable"}
    if if_none_match is not None and (etag in if_none_match or if_none_match.strip() == "*"):
        return Response(status_code=304, headers=headers)
    parts = write_bundle(database, inputs, result)
    return StreamingResponse(parts, headers=headers, media_type="application/json")


@router.get("/rounds/{roundId}/proofs/{voteId}")
async def get_proof(round_id: RoundId, leaf: Leaf, session: ReadSessionDep) -> InclusionProof:
    """That a vote, or a reward, is included under the round's published root."""
    stored = await find_round(session, round_id)
    result = await _result(session, stored)
    if isinstance(leaf, UUID):
        proof = await prove_vote(session, result, leaf)
    else:
        proof = prove_reward(result, leaf)
    return InclusionProof.of(stored.id, proof)


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
