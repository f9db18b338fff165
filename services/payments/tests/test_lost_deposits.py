"""Deposits that vanish before they are mined, on the simulated chain over its real HTTP."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio

from memepool_chain import headerstore
from memepool_chain.headerstore import Checkpoint
from memepool_chain.network import REGTEST
from memepool_chain.whatsonchain import WhatsOnChain
from memepool_common.server import serving
from memepool_payments.store import reads
from memepool_payments.use_cases import deposits, headers
from memepool_sandbox.chain.node import Node
from memepool_sandbox.chain_app import ChainSettings, create_chain_app
from services.payments.tests.books import Books
from services.payments.tests.test_deposits import SETTINGS, Till

AMOUNT = 5_000


class Counter:
    """Payments beside the simulated chain."""

    def __init__(self, books: Books, node: Node, source: WhatsOnChain) -> None:
        self.books = books
        self.node = node
        self.source = source
        self.keys = deposits.DepositKeys(SETTINGS)

    async def address(self, user: UUID) -> str:
        async with self.books.database.transaction() as session:
            return await deposits.address_for(session, self.keys, user, watch=timedelta(hours=1))

    async def look(self) -> reads.Reserves:
        """One turn of the worker, after it has heard of every block; the books add up."""
        raw = [
            self.node.branches.at(height).block.header.serialize()
            for height in range(1, self.node.branches.tip.height + 1)
        ]
        async with self.books.database.transaction() as session:
            await headers.add(session, REGTEST, raw)
        await deposits.scan(self.books.database, self.source, SETTINGS, amount_min=1)
        await deposits.prove(self.books.database, self.source, SETTINGS)
        async with self.books.database.read() as session:
            found = await reads.reserves(session)
        assert found.coins == found.owed + found.pending + found.platform_equity
        return found


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node.open(tmp_path / "chain.journal")
    yield node
    node.close()


@pytest_asyncio.fixture
async def counter(books: Books, node: Node) -> AsyncIterator[Counter]:
    async with books.database.transaction() as session:
        await headerstore.initialize(session, Checkpoint.genesis(REGTEST))
    app = create_chain_app(node, ChainSettings(rate_per_s=10_000))
    async with (
        serving(app, "127.0.0.1", 0) as port,
        WhatsOnChain(f"http://127.0.0.1:{port}/v1/bsv", "main", rate_per_s=10_000) as source,
    ):
        yield Counter(books, node, source)


async def test_a_double_spent_deposit_stops_counting_after_two_looks(counter: Counter) -> None:
    (alice,) = await counter.books.funded([0])
    txid = counter.node.fund(await counter.address(alice), AMOUNT)
    assert (await counter.look()).pending == AMOUNT
    counter.node.double_spend(txid)
    assert (await counter.look()).pending == AMOUNT  # one look may be a hiccup
    after = await counter.look()
    assert (after.pending, after.coins) == (0, 0)
    assert (await counter.look()).pending == 0


@pytest.mark.parametrize("keep", [False, True])
async def test_a_reorganisation_drops_deposits_or_brings_them_back(
    counter: Counter, *, keep: bool
) -> None:
    (alice,) = await counter.books.funded([0])
    counter.node.fund(await counter.address(alice), AMOUNT)
    counter.node.mine()
    await counter.look()
    assert (await counter.look()).available == AMOUNT
    counter.node.reorg(1, keep_transactions=keep)
    for _ in range(3):
        await counter.look()
    after = await counter.look()
    waiting = AMOUNT if keep else 0
    assert (after.available, after.pending, after.coins) == (0, waiting, waiting)
    counter.node.mine()
    await counter.look()
    assert (await counter.look()).available == waiting


@pytest.fixture
async def till(books: Books) -> Till:
    return await Till(books).start()


async def test_a_lost_deposit_that_comes_back_counts_again_and_is_credited(till: Till) -> None:
    (alice,) = await till.books.funded([0])
    address = await till.address(alice)
    txid = till.chain.pay(address, 300, 20)
    await till.look()
    claims, known = till.chain.claims.pop(address), till.chain.transactions.pop(txid)
    await till.look()
    await till.look()
    assert (await till.balances(alice)).pending == 0
    till.chain.claims[address], till.chain.transactions[txid] = claims, known
    await till.look()
    assert (await till.balances(alice)).pending == 320
    await till.tell(till.chain.mine(txid))
    await till.look()
    assert await till.balances(alice) == (320, 0, 0, 0)


async def test_a_lost_deposit_that_is_mined_all_the_same_is_credited(till: Till) -> None:
    (alice,) = await till.books.funded([0])
    address = await till.address(alice)
    txid = till.chain.pay(address, 300)
    await till.look()
    claims, known = till.chain.claims.pop(address), till.chain.transactions.pop(txid)
    for _ in range(3):
        await till.look()
    till.chain.claims[address], till.chain.transactions[txid] = claims, known
    await till.tell(till.chain.mine(txid))
    await till.look()
    assert (await till.balances(alice)).available == 300


async def test_an_output_that_is_not_listed_while_its_transaction_is_known_keeps_counting(
    till: Till,
) -> None:
    (alice,) = await till.books.funded([0])
    address = await till.address(alice)
    till.chain.pay(address, 300)
    await till.look()
    till.chain.claims.pop(address)
    for _ in range(5):
        await till.look()
    assert (await till.balances(alice)).pending == 300


async def test_hiccups_of_the_source_that_do_not_follow_each_other_lose_nothing(
    till: Till,
) -> None:
    (alice,) = await till.books.funded([0])
    address = await till.address(alice)
    txid = till.chain.pay(address, 300)
    await till.look()
    claims, known = till.chain.claims[address], till.chain.transactions[txid]
    for _ in range(3):
        del till.chain.claims[address], till.chain.transactions[txid]
        await till.look()
        till.chain.claims[address], till.chain.transactions[txid] = claims, known
        await till.look()
    assert (await till.balances(alice)).pending == 300
