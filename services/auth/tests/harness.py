"""A wallet, and a running replica of auth with the calls that tests make over and over."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from memepool_auth.settings import Settings
from memepool_chain.address import address_of
from memepool_chain.keys import PrivateKey, uncompressed
from memepool_chain.message import sign_bsm
from memepool_chain.network import REGTEST
from memepool_common.db import Database
from memepool_common.testing import until
from memepool_sandbox.inprocess_bus import InProcessBus, create_bus_tables


class Wallet:
    """A wallet that signs what it is shown."""

    def __init__(self) -> None:
        self.key = PrivateKey.generate()
        self.address = address_of(self.key.public_key, REGTEST)
        self.uncompressed_address = address_of(uncompressed(self.key.public_key), REGTEST)

    def sign(self, message: str, *, compressed: bool = True) -> str:
        return sign_bsm(message, self.key, compressed=compressed)


@dataclass
class SignedIn:
    """A client with tokens."""

    wallet: Wallet
    answer: dict[str, Any]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.answer['accessToken']}"}

    @property
    def user_id(self) -> str:
        return str(self.answer["user"]["id"])

    @property
    def session_id(self) -> str:
        return str(self.answer["session"]["id"])


@dataclass
class Replica:
    """One running process of auth."""

    http: httpx.AsyncClient
    internal: httpx.AsyncClient
    settings: Settings

    async def prove(self, wallet: Wallet) -> dict[str, str]:
        """The body of a good POST /auth/verify."""
        asked = await self.http.post("/auth/challenge", json={"walletAddress": wallet.address})
        assert asked.status_code == 201, asked.text
        challenge = asked.json()
        return {
            "walletAddress": wallet.address,
            "nonce": challenge["nonce"],
            "signature": wallet.sign(challenge["message"]),
        }

    async def sign_in(self, wallet: Wallet | None = None) -> SignedIn:
        wallet = wallet or Wallet()
        answer = await self.http.post("/auth/session", json=await self.prove(wallet))
        assert answer.status_code == 201, answer.text
        return SignedIn(wallet, answer.json())

    async def me(self, client: SignedIn) -> httpx.Response:
        return await self.http.get("/auth/me", headers=client.headers)

    async def until_refused(self, client: SignedIn) -> None:
        """Wait until the access token has stopped working.

        A second is what is promised, by the intervals that `test_auth_state` adds up. A machine
        that runs other tests as well may take longer to do the same.
        """

        async def refused() -> bool:
            return (await self.me(client)).status_code == 401

        await until(refused)


Start = Callable[..., Awaitable[Replica]]
"""`await start()`: another replica on the same database; keywords change sign-in settings."""
Owner = Callable[..., Awaitable[Any]]
"""`await as_owner(sql, **given)`: one statement as the database's owner; its rows if any."""


async def in_process_bus(database: Database) -> InProcessBus:
    """A bus whose queues lie in the same database: a test needs no second one."""
    owner_url = database.settings.owner_url
    assert owner_url is not None
    app_role = database.settings.app_role
    await asyncio.to_thread(create_bus_tables, owner_url.get_secret_value(), app_role)
    return InProcessBus(database)


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The answer is this problem, in full form; its body."""
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    ), answer.text
    body: dict[str, Any] = answer.json()
    assert body["code"] == code, body
    assert body["type"] == f"/problems/{code}"
    assert body["detail"]
    return body
