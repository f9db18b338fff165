"""What every API process opens before its first request and closes after its last."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

from fastapi import FastAPI

from memepool_common import authstate
from memepool_common.authstate import AuthState
from memepool_common.db import Database
from memepool_common.settings import (
    AuthnSettings,
    DatabaseSettings,
    HttpSettings,
    TelemetrySettings,
)
from memepool_common.tokens import TokenVerifier
from memepool_common.web.app import Probes


class ServiceSettings(Protocol):
    """The groups that the settings of every service with a database have."""

    @property
    def http(self) -> HttpSettings:
        """Ports and limits."""
        ...

    @property
    def database(self) -> DatabaseSettings:
        """The service's own database."""
        ...

    @property
    def authn(self) -> AuthnSettings:
        """Where tokens are checked against."""
        ...

    @property
    def telemetry(self) -> TelemetrySettings:
        """Logs, traces, metrics."""
        ...


@contextlib.asynccontextmanager
async def open_database(
    settings: DatabaseSettings, probes: Probes, name: str
) -> AsyncIterator[Database]:
    """The service's database, checked to be reached with an application role's rights only."""
    database = Database.connect(settings, application_name=name)
    try:
        await database.require_application_role()
        probes.add("database", database.ping)
        yield database
    finally:
        await database.close()


@contextlib.asynccontextmanager
async def api_resources(
    app: FastAPI, settings: ServiceSettings, probes: Probes
) -> AsyncIterator[Database]:
    """Open the database and follow auth; sets `app.state.database` and `app.state.tokens`."""
    async with (
        open_database(settings.database, probes, app.title) as database,
        following_auth(settings.authn, probes) as tokens,
    ):
        app.state.database = database
        app.state.tokens = tokens
        yield database


@contextlib.asynccontextmanager
async def following_auth(settings: AuthnSettings, probes: Probes) -> AsyncIterator[TokenVerifier]:
    """A verifier that is kept up to date; the process is not ready before auth's first answer."""
    state = AuthState(stale_after_s=settings.stale_after_s)

    async def known() -> None:
        if not state.known:
            raise ConnectionError("auth has not answered yet")

    probes.add("auth_state", known)
    stopping = asyncio.Event()
    poller = asyncio.create_task(authstate.poll(state, settings, stopping), name="auth-state")
    try:
        yield TokenVerifier(state, issuer=settings.issuer, audience=settings.audience)
    finally:
        stopping.set()
        await poller
