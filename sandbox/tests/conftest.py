"""What the sandbox's tests share: a node, its HTTP application, and somebody who can pay."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from memepool_common.server import serving
from memepool_sandbox.chain.node import Node
from memepool_sandbox.chain_app import ChainSettings, create_chain_app
from memepool_sandbox.wallet import Wallet


@pytest.fixture
def payer() -> Wallet:
    """Somebody with a key, and soon with coins."""
    return Wallet(b"payer")


@pytest.fixture
def nobody() -> str:
    """An address without coins."""
    return Wallet(b"nobody").address


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A new chain."""
    node = Node.open(tmp_path / "chain.journal")
    yield node
    node.close()


@pytest_asyncio.fixture
async def woc_url(node: Node) -> AsyncIterator[str]:
    """Where the node answers, up to and without the network."""
    app = create_chain_app(node, ChainSettings(rate_per_s=10_000))
    async with serving(app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}/v1/bsv"


@pytest_asyncio.fixture
async def woc(woc_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the node's network."""
    async with httpx.AsyncClient(base_url=f"{woc_url}/main", timeout=30) as client:
        yield client
