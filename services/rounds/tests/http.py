"""The API of rounds over HTTP, with a chain and a payments that the test plays."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from memepool_common.testing import TestIssuer, until
from memepool_common.tokens import Principal
from services.rounds.tests.harness import World

POLICY: dict[str, Any] = {
    "id": "flat-1",
    "feeBp": 0,
    "creatorsBp": 10_000,
    "placesBp": [],
    "tiers": [],
    "minStake": 5,
}


@dataclass
class Api:
    """Calls as a principal, or as nobody."""

    http: httpx.AsyncClient
    world: World
    issuer: TestIssuer
    as_owner: Callable[[str], Awaitable[None]]

    def as_(self, caller: Principal | None) -> dict[str, str]:
        return self.issuer.headers(caller) if caller else {}

    async def get(
        self, path: str, caller: Principal | None = None, **params: Any
    ) -> httpx.Response:
        return await self.http.get(path, headers=self.as_(caller), params=params or None)

    async def post(
        self,
        path: str,
        body: Any,
        caller: Principal | None,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        keyed = {"Idempotency-Key": key} if key is not None else {}
        sent = {**self.as_(caller), **keyed, **(headers or {})}
        return await self.http.post(path, json=body, headers=sent)

    async def delete(self, path: str, caller: Principal | None) -> httpx.Response:
        return await self.http.delete(path, headers=self.as_(caller))

    async def until_rows(self, query: str, count: int) -> None:
        """Wait until a query finds so many rows."""

        async def found() -> bool:
            return len(await self.world.rows(query)) >= count

        await until(found)
