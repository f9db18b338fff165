"""Sessions: open, refresh, list, end."""

from uuid import UUID

from fastapi import APIRouter

from memepool_auth.api.deps import ClientDep, DatabaseDep, MintDep, SettingsDep, Unstored
from memepool_auth.api.schemas import SessionAnswer, SessionModel, SessionRequest, VerifyRequest
from memepool_auth.api.sign_in import prove
from memepool_auth.store import sessions as store
from memepool_auth.store import users
from memepool_auth.use_cases import sessions
from memepool_common.web.deps import Caller, ReadSessionDep, SessionDep
from memepool_common.web.model import (
    PAGE_SIZE_DEFAULT,
    Cursor,
    Limit,
    Page,
    decode_cursor,
    encode_cursor,
)
from memepool_common.web.problem import Problem, not_built_yet

router = APIRouter(tags=["auth"])


@router.post("/auth/session", status_code=201, dependencies=[Unstored])
async def create_session(
    body: SessionRequest,
    settings: SettingsDep,
    client: ClientDep,
    mint: MintDep,
    database: DatabaseDep,
) -> SessionAnswer:
    """Tokens for a grant, a refresh token, or a signed challenge as in POST /auth/verify."""
    _require_one_credential(body)
    if body.cookie:
        raise not_built_yet("createSession with cookie: true")
    if body.refresh_token is not None:
        tokens = await sessions.refresh(database, mint, body.refresh_token, client)
    elif body.grant is not None:
        async with database.transaction() as session:
            tokens = await sessions.redeem_grant(session, mint, body.grant, client)
    else:
        proof = VerifyRequest.model_validate(body, from_attributes=True)
        user = await prove(proof, settings, client, database)
        async with database.transaction() as session:
            tokens = await sessions.open_session(session, mint, user.id, client)
    async with database.read() as session:
        stats = await users.stats(session, tokens.user.id)
    return SessionAnswer.of(tokens, stats)


@router.delete("/auth/session", status_code=204)
async def end_session(caller: Caller, client: ClientDep, session: SessionDep) -> None:
    """End the session of the token that is sent: it stops working everywhere within a second."""
    await sessions.end_own(session, caller.user_id, caller.session_id, client, reason="signed_out")


@router.get("/auth/sessions")
async def list_sessions(
    caller: Caller,
    session: ReadSessionDep,
    limit: Limit = PAGE_SIZE_DEFAULT,
    cursor: Cursor = None,
) -> Page[SessionModel]:
    """Your live sessions, newest first."""
    before = decode_cursor(cursor, UUID)[0] if cursor is not None else None
    found = await store.live(session, caller.user_id, limit + 1, before)
    items = [SessionModel.of(each, caller.session_id) for each in found[:limit]]
    more = len(found) > limit
    return Page(items=items, next_cursor=encode_cursor(items[-1].id) if more else None)


@router.delete("/auth/sessions", status_code=204)
async def end_other_sessions(caller: Caller, client: ClientDep, session: SessionDep) -> None:
    """End all of your sessions but this one."""
    await sessions.end_others(session, caller.user_id, caller.session_id, client)


@router.delete("/auth/sessions/{session_id}", status_code=204)
async def end_session_by_id(
    session_id: UUID, caller: Caller, client: ClientDep, session: SessionDep
) -> None:
    """End one of your sessions."""
    await sessions.end_own(session, caller.user_id, session_id, client, reason="ended_by_owner")


def _require_one_credential(body: SessionRequest) -> None:
    given = [
        name
        for name, value in (
            ("grant", body.grant),
            ("refreshToken", body.refresh_token),
            ("walletAddress", body.wallet_address),
        )
        if value is not None
    ]
    if len(given) != 1:
        said = " and ".join(given) if given else "none of them"
        detail = (
            "Send exactly one of grant, refreshToken, or walletAddress with its signature;"
            f" there is {said}."
        )
        raise Problem(422, "one_credential_required", detail)
