"""The API process: what it opens, and its routes."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from memepool_common.audit import audit_router
from memepool_common.web.app import Probes, build_app, internal_app
from memepool_common.web.lifespan import api_resources
from memepool_payments.api import chain, money, platform
from memepool_payments.domain import errors
from memepool_payments.settings import Settings
from memepool_payments.use_cases.deposits import DepositKeys
from memepool_payments.use_cases.members import Acquaintance
from memepool_payments.use_cases.posting import Poster

ERRORS: dict[type[Exception], int] = {
    errors.NotKnownYetError: 404,
    errors.TransactionNotFoundError: 404,
    errors.DepositNotFoundError: 404,
    errors.MemberNotFoundError: 404,
    errors.InvalidRecipientError: 422,
    errors.SelfTransferError: 422,
    errors.IdempotencyKeyReusedError: 422,
    errors.RefusedError: 422,
}


def create_apps(settings: Settings, probes: Probes) -> tuple[FastAPI, FastAPI]:
    """The public and the internal application."""
    deposit_keys = DepositKeys(settings.chain)  # a bad key must not wait for the first deposit

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with api_resources(app, settings, probes) as database:
            app.state.settings = settings
            app.state.deposit_keys = deposit_keys
            app.state.acquaintance = Acquaintance(database)
            app.state.poster = Poster(database)
            yield
            await app.state.poster.drain()

    public = build_app(
        service="payments",
        description="A double-entry ledger in satoshis: balances, transfers, deposits, rewards.",
        settings=settings.http,
        lifespan=lifespan,
        routers=[money.router, chain.router, platform.router, audit_router("payments")],
        errors=ERRORS,
    )
    return public, internal_app(probes)
