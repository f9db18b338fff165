"""The API process: what it opens, and its routes."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from memepool_chain.bip32 import Bip32Error
from memepool_chain.network import network_named
from memepool_common.audit import audit_router
from memepool_common.settings import BadSettingsError
from memepool_common.web.app import Probes, build_app, internal_app
from memepool_common.web.lifespan import api_resources
from memepool_payments.api import chain, money, platform, transfers
from memepool_payments.domain import errors
from memepool_payments.settings import Settings
from memepool_payments.store.transfers import Rules
from memepool_payments.use_cases.deposits import DepositKeys
from memepool_payments.use_cases.members import Acquaintance
from memepool_payments.use_cases.posting import Poster
from memepool_payments.use_cases.transfers import Desk

ERRORS: dict[type[Exception], int] = {
    errors.NotKnownYetError: 404,
    errors.TransactionNotFoundError: 404,
    errors.DepositNotFoundError: 404,
    errors.MemberNotFoundError: 404,
    errors.RoundNotFoundError: 404,
    errors.NotStoppedError: 409,
    errors.InvalidRecipientError: 422,
    errors.SelfTransferError: 422,
    errors.IdempotencyKeyReusedError: 422,
    errors.RefusedError: 422,
    errors.TooFastError: 429,
    errors.SignatureRequiredError: 403,
    errors.SignatureRefusedError: 403,
    errors.TooManyChallengesError: 429,
    errors.WithdrawalsStoppedError: 503,
}


def create_apps(settings: Settings, probes: Probes) -> tuple[FastAPI, FastAPI]:
    """The public and the internal application."""
    try:
        deposit_keys = DepositKeys(settings.chain)  # a bad key must not wait for the first deposit
    except Bip32Error as error:
        raise BadSettingsError(f"MEMEPOOL_PAYMENTS_CHAIN__DEPOSIT_XPUB: {error}") from error

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with api_resources(app, settings, probes) as database:
            app.state.settings = settings
            app.state.deposit_keys = deposit_keys
            app.state.acquaintance = Acquaintance(database)
            rules = settings.money
            poster = Poster(
                database,
                Rules(rules.transfer_fee, rules.sent_per_hour_max, rules.transfers_per_hour_max),
            )
            network = network_named(settings.chain.network)
            app.state.desk = Desk(app.state.acquaintance, poster, network)
            yield
            await poster.drain()

    public = build_app(
        service="payments",
        description="A double-entry ledger in satoshis: balances, transfers, deposits, rewards.",
        settings=settings.http,
        lifespan=lifespan,
        routers=[
            money.router,
            transfers.router,
            chain.router,
            platform.router,
            audit_router("payments"),
        ],
        errors=ERRORS,
        fast=transfers.FAST_TRANSFER,
    )
    return public, internal_app(probes)
