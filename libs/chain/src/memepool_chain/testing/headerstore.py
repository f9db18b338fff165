"""For tests: a header store whose every call is a transaction of its own."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from memepool_chain import headerstore
from memepool_chain.header import Header
from memepool_chain.headerstore import Change, Tip, add_headers, missing_parents, tip
from memepool_chain.network import REGTEST, Network
from memepool_chain.testing import genesis

NOW = datetime(2030, 1, 1, tzinfo=UTC)
GENESIS = genesis()


class Store:
    """The functions under test, each call in a transaction of its own."""

    def __init__(self, engine: AsyncEngine, network: Network = REGTEST) -> None:
        self.engine = engine
        self.network = network

    async def add(self, headers: Sequence[Header], *, now: datetime = NOW) -> Change:
        async with self.engine.begin() as session:
            raw = [each.serialize() for each in headers]
            return await add_headers(session, self.network, raw, now=now)

    async def tip(self) -> Tip:
        async with self.engine.begin() as session:
            return await tip(session)

    async def state(self, header: Header) -> str | None:
        async with self.engine.begin() as session:
            stored = await headerstore.header(session, header.hash)
            return stored.state if stored else None

    async def known(self, header: Header) -> bool:
        async with self.engine.begin() as session:
            return await headerstore.known(session, header.hash)

    async def active(self) -> list[str]:
        """The active branch's hashes by height, read one by one."""
        async with self.engine.begin() as session:
            height = (await tip(session)).height
            found = [await headerstore.header_at(session, h) for h in range(height + 2)]
            if found.pop() is not None:
                raise AssertionError("an active header above the tip")
            return [each.hash if each else "gap" for each in found]

    async def missing(self) -> list[str]:
        async with self.engine.begin() as session:
            return await missing_parents(session)


def hashes(headers: Sequence[Header]) -> list[str]:
    return [each.hash for each in headers]


def connected(change: Change) -> list[str]:
    return [each.hash for each in change.connected]


def disconnected(change: Change) -> list[str]:
    return [each.hash for each in change.disconnected]
