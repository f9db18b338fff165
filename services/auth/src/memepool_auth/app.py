"""The API process, wired."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from memepool_auth.api import internal, sessions, sign_in, users
from memepool_auth.domain import errors
from memepool_auth.settings import Settings
from memepool_auth.use_cases.auth_state import AuthState
from memepool_auth.use_cases.keys import KeyRing, ensure_signing_key
from memepool_auth.use_cases.sessions import TokenMint
from memepool_common.audit import audit_router
from memepool_common.web.app import Probes, build_app, internal_app
from memepool_common.web.lifespan import following_auth, open_database

DESCRIPTION = "Sign-in with a BSV wallet, sessions, users and roles."
STATUSES: dict[type[Exception], int] = {
    errors.SignInRefusedError: 401,
    errors.BadCredentialsError: 422,
    errors.ForbiddenError: 403,
    errors.NotFoundError: 404,
    errors.SessionGoneError: 410,
    errors.LastAdminError: 409,
    errors.TooManyAttemptsError: 429,
}


def create_apps(settings: Settings, probes: Probes) -> tuple[FastAPI, FastAPI]:
    """The public application, and the internal one that shares its resources."""
    inner = internal_app(probes, [internal.router])

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        encryption_key, authn = settings.keys.encryption_key_bytes, settings.authn
        async with open_database(settings.database, probes, "auth") as database:
            async with database.transaction() as session:
                await ensure_signing_key(session, encryption_key)
            keys = KeyRing(database, encryption_key)

            async def mint() -> TokenMint:
                return TokenMint(await keys.signing(), authn.issuer, authn.audience)

            app.state.database, app.state.settings = database, settings
            app.state.keys, app.state.mint = keys, mint
            app.state.address_secret = settings.keys.address_secret
            # Auth follows its own internal port as everybody does, so that has to answer first.
            inner.state.auth_state = AuthState(database, keys, authn.issuer)
            async with following_auth(authn, probes) as tokens:
                app.state.tokens = tokens
                yield

    public = build_app(
        service="auth",
        description=DESCRIPTION,
        settings=settings.http,
        lifespan=lifespan,
        routers=[sign_in.router, sessions.router, users.router, audit_router("auth")],
        errors=STATUSES,
    )
    return public, inner
