"""Payments over HTTP, with users that are signed in."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
from pydantic import SecretStr

from memepool_chain import headerstore
from memepool_chain.address import address_of
from memepool_chain.headerstore import Checkpoint
from memepool_chain.keys import PrivateKey
from memepool_chain.network import REGTEST
from memepool_common.server import serving
from memepool_common.settings import AuthnSettings, DatabaseSettings
from memepool_common.testing import TestIssuer, stub_auth
from memepool_common.tokens import Principal
from memepool_common.web.app import Probes
from memepool_payments.app import create_apps
from memepool_payments.settings import MoneySettings, Settings
from services.payments.tests.books import Books
from services.payments.tests.test_deposits import SETTINGS as CHAIN

SIGNED_FROM = 1_000_000


class Site:
    """The service over HTTP."""

    def __init__(self, client: httpx.AsyncClient, books: Books, issuer: TestIssuer) -> None:
        self.client = client
        self.books = books
        self.issuer = issuer
        self.wallets: dict[UUID, PrivateKey] = {}

    async def user(self, amount: int = 0, role: str = "viewer") -> Principal:
        user_id = await self.books.user(amount)
        key = PrivateKey.generate()
        wallet = address_of(key.public_key, REGTEST)
        self.wallets[user_id] = key
        principal = self.issuer.principal(role, user_id=user_id, wallet=wallet)
        await self.get(principal, "/payments/balance")
        return principal

    async def get(self, who: Principal | None, path: str, **params: Any) -> httpx.Response:
        return await self.call(who, "GET", path, params=params)

    async def send(
        self, who: Principal | None, body: Any, key: str | bytes | None = None
    ) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.call(who, "POST", "/payments/transfer", json=body, headers=headers)

    async def call(
        self, who: Principal | None, method: str, path: str, **options: Any
    ) -> httpx.Response:
        token = {} if who is None else self.issuer.headers(who)
        headers = {**token, **options.pop("headers", {})}
        return await self.client.request(method, path, headers=headers, **options)


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.json()["detail"]


RULES = MoneySettings(signed_transfer_from=SIGNED_FROM)


def settings_of(
    database: DatabaseSettings, auth_url: str, money: MoneySettings = RULES
) -> Settings:
    return Settings(
        database=database,
        authn=AuthnSettings(internal_url=auth_url, poll_interval_s=0.05, stale_after_s=60),
        chain=CHAIN,
        money=money,
        arc_callback_token=SecretStr("the token that arc has"),
    )


@contextlib.asynccontextmanager
async def open_site(books: Books, money: MoneySettings = RULES) -> AsyncIterator[Site]:
    """The service on a free port, ready."""
    async with books.database.transaction() as session:
        await headerstore.initialize(session, Checkpoint.genesis(REGTEST))
    issuer = TestIssuer()
    probes = Probes()
    async with stub_auth(issuer) as auth_url:
        settings = settings_of(books.database.settings, auth_url, money)
        public, _ = create_apps(settings, probes)
        async with (
            serving(public, "127.0.0.1", 0) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            async with asyncio.timeout(5):
                while await probes.failures():
                    await asyncio.sleep(0.01)
            yield Site(client, books, issuer)
