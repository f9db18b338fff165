"""Sessions: open, refresh, list, end."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from memepool_auth.api import cookies
from memepool_auth.api.deps import ClientDep, DatabaseDep, MintDep, SessionId, SettingsDep, Unstored
from memepool_auth.api.schemas import SessionAnswer, SessionModel, SessionRequest, VerifyRequest
from memepool_auth.api.sign_in import prove
from memepool_auth.domain.client import Client
from memepool_auth.domain.errors import RefreshCookieMissingError, SignInRefusedError
from memepool_auth.domain.user import User as DomainUser
from memepool_auth.settings import Settings
from memepool_auth.store import sessions as store
from memepool_auth.use_cases import sessions
from memepool_auth.use_cases.sessions import TokenMint, Tokens
from memepool_common.db import Database, Session
from memepool_common.web.deps import Caller, ReadSessionDep, SessionDep
from memepool_common.web.model import (
    PAGE_SIZE_DEFAULT,
    Cursor,
    Limit,
    Page,
    cut_page,
    decode_cursor,
)
from memepool_common.web.problem import Problem

router = APIRouter(tags=["auth"])


@router.post("/auth/session", status_code=201, dependencies=[Unstored])
async def create_session(
    body: SessionRequest,
    request: Request,
    response: Response,
    settings: SettingsDep,
    client: ClientDep,
    mint: MintDep,
    database: DatabaseDep,
) -> SessionAnswer:
    """Tokens for a grant, a refresh token, or a signed challenge as in POST /auth/verify.

    With `cookie: true` the refresh token comes and goes as a cookie; such a request must come from
    a page of ours.
    """
    if body.cookie:
        cookies.require_own_origin(request, settings.sign_in.own_origins)
    by_cookie = _require_one_credential(body) is None
    try:
        tokens = await _open_or_refresh(body, request, settings, client, mint, database)
    except SignInRefusedError as refusal:
        if by_cookie:  # what the browser holds is no good
            refusal.headers = {**refusal.headers, "Set-Cookie": cookies.clearing()}
        raise
    if body.cookie:
        opened = tokens.session
        cookie = cookies.keeping(tokens.refresh_token, opened.last_used_at, opened.expires_at)
        response.headers["Set-Cookie"] = cookie
    return SessionAnswer.of(tokens, in_cookie=body.cookie)


@router.delete("/auth/session", status_code=204)
async def end_session(
    caller: Caller, request: Request, response: Response, client: ClientDep, session: SessionDep
) -> None:
    """End the session of the token that is sent: it stops working everywhere within a second."""
    await sessions.end_own(session, caller.user_id, caller.session_id, client, reason="signed_out")
    if cookies.refresh_token_of(request) is not None:
        response.headers["Set-Cookie"] = cookies.clearing()


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
    shown, more = cut_page(found, limit, lambda each: (each.id,))
    items = [SessionModel.of(each, caller.session_id) for each in shown]
    return Page(items=items, next_cursor=more)


@router.delete("/auth/sessions", status_code=204)
async def end_other_sessions(
    caller: Caller,
    client: ClientDep,
    session: SessionDep,
    include_current: Annotated[
        bool, Query(alias="includeCurrent", description="End this one, too")
    ] = False,
) -> None:
    """End all of your sessions but this one; or all."""
    kept = None if include_current else caller.session_id
    await sessions.end_all(session, caller.user_id, kept, client)


@router.delete("/auth/sessions/{sessionId}", status_code=204)
async def end_session_by_id(
    session_id: SessionId, caller: Caller, client: ClientDep, session: SessionDep
) -> None:
    """End one of your sessions."""
    await sessions.end_own(session, caller.user_id, session_id, client, reason="ended_by_owner")


async def _open_or_refresh(
    body: SessionRequest,
    request: Request,
    settings: Settings,
    client: Client,
    mint: TokenMint,
    database: Database,
) -> Tokens:
    if body.grant is not None:
        async with database.transaction() as session:
            return await sessions.redeem_grant(session, mint, body.grant, client)
    if body.wallet_address is not None:
        proof = VerifyRequest.model_validate(body, from_attributes=True)

        async def open_session(session: Session, user: DomainUser) -> Tokens:
            return await sessions.open_session(session, mint, user.id, client)

        return await prove(proof, settings, client, database, open_session)
    refresh_token = body.refresh_token or cookies.refresh_token_of(request)
    if refresh_token is None:
        raise RefreshCookieMissingError
    return await sessions.refresh(database, mint, refresh_token, client)


def _require_one_credential(body: SessionRequest) -> str | None:
    """The field with the credential; None for the one in the cookie."""
    given = [
        name
        for name, value in (
            ("grant", body.grant),
            ("refreshToken", body.refresh_token),
            ("walletAddress", body.wallet_address),
        )
        if value is not None
    ]
    if len(given) == 1 or (body.cookie and not given):
        return given[0] if given else None
    said = " and ".join(given) if given else "none of them"
    detail = (
        "Send exactly one of grant, refreshToken, or walletAddress with its signature;"
        f" there is {said}."
    )
    raise Problem(422, "one_credential_required", detail)
