"""FastAPI dependencies: the session, the caller, the idempotency key."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.security import HTTPBearer

from memepool_common.db import Session
from memepool_common.tokens import Principal, TokenVerifier
from memepool_common.web.problem import Problem

_bearer = HTTPBearer(auto_error=False, description="The access token of POST /auth/session")


async def _session(request: Request) -> AsyncIterator[Session]:
    async with request.app.state.database.transaction() as session:
        yield session


async def _read_session(request: Request) -> AsyncIterator[Session]:
    async with request.app.state.database.read() as session:
        yield session


# scope="function": the commit happens before the first byte of the answer, so that a failed
# commit is a 500 and never a success that did not happen.
SessionDep = Annotated[Session, Depends(_session, scope="function")]
ReadSessionDep = Annotated[Session, Depends(_read_session, scope="function")]


async def _optional_caller(
    request: Request,
    _documented: Annotated[object, Depends(_bearer)],
) -> Principal | None:
    tokens: TokenVerifier = request.app.state.tokens
    return tokens.admit(request.method, request.headers.getlist("authorization"))


OptionalCaller = Annotated[Principal | None, Depends(_optional_caller)]
TOKEN_OPTIONAL: dict[str, Any] = {"security": [{}]}
"""`openapi_extra` of a route with an `OptionalCaller`: the document would demand a token."""


async def _caller(principal: OptionalCaller) -> Principal:
    if principal is None:
        detail = "This call needs the access token of POST /auth/session as a bearer token."
        raise Problem(401, "token_required", detail, headers={"WWW-Authenticate": "Bearer"})
    return principal


Caller = Annotated[Principal, Depends(_caller)]


async def _creator(principal: Caller) -> Principal:
    if principal.role not in ("creator", "admin"):
        detail = 'This call is for creators: PATCH /auth/me {"role": "creator"}, then a new token.'
        raise Problem(403, "role_required", detail)
    return principal


async def _admin(principal: Caller) -> Principal:
    if principal.role != "admin":
        raise Problem(403, "role_required", "This call is for admins.")
    return principal


CreatorCaller = Annotated[Principal, Depends(_creator)]
AdminCaller = Annotated[Principal, Depends(_admin)]

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="Send the same key to repeat a call safely; kept 7 days",
    ),
]
