"""Deposits: believed only when our own headers prove them, and taken back when a branch loses."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from memepool_chain import headerstore
from memepool_chain.address import address_of
from memepool_chain.bip32 import Bip32Error, ExtendedPrivateKey
from memepool_chain.header import HeaderError
from memepool_chain.headerstore import Checkpoint
from memepool_chain.network import MAIN, REGTEST
from memepool_chain.whatsonchain import Proof, Unspent, WhatsOnChainError
from memepool_common.ids import uuid7
from memepool_payments import consumers
from memepool_payments.settings import ChainSettings
from memepool_payments.store import ledger, reads
from memepool_payments.use_cases import deposits, headers
from memepool_payments.use_cases.sourcing import tolerating
from services.payments.tests.ballot import Ballot, event
from services.payments.tests.books import Books, transfer_journal
from services.payments.tests.fake_chain import Block, FakeChain

ROOT = ExtendedPrivateKey.from_seed(b"a seed for tests, nothing else..", REGTEST)
SETTINGS = ChainSettings(
    network="regtest",
    deposit_xpub=str(ROOT.neuter()),
    scan_interval_s=1e-6,
    maturity_blocks=2,
)
CREDITED = "memepool.payments.deposit.credited.v1"
REVERSED = "memepool.payments.deposit.reversed.v1"


class Till:
    """Payments' view of the fake chain."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.chain = FakeChain()
        self.keys = deposits.DepositKeys(SETTINGS)

    async def start(self) -> "Till":
        async with self.books.database.transaction() as session:
            await headerstore.initialize(session, Checkpoint.genesis(REGTEST))
        return self

    async def address(self, user: UUID) -> str:
        async with self.books.database.transaction() as session:
            watch = timedelta(hours=1)
            return await deposits.address_for(session, self.keys, user, watch=watch)

    async def tell(self, *blocks: Block) -> None:
        """The events of rounds."""
        connected = [
            event(consumers.BLOCK_CONNECTED, {"header": block.header.serialize().hex()})
            for block in blocks
        ]
        async with self.books.database.transaction() as session:
            await consumers.on_block_connected(session, connected, network=REGTEST)

    async def look(self) -> None:
        """One turn of the worker."""
        await headers.complete(self.books.database, self.chain, REGTEST)
        await deposits.scan(self.books.database, self.chain, SETTINGS, amount_min=1)
        await deposits.prove(self.books.database, self.chain, SETTINGS)
        await self.books.check()
        async with self.books.database.read() as session:
            reserves = await reads.reserves(session)
        assert reserves.coins == reserves.owed + reserves.pending + reserves.platform_equity

    async def deposit(self) -> tuple[str, int]:
        ((state, generation),) = await self.books.rows("select state, generation from deposit")
        return state, generation

    async def balances(self, user: UUID) -> reads.Balances:
        async with self.books.database.read() as session:
            return await reads.balances(session, user, SETTINGS.maturity_blocks)


@pytest.fixture
async def till(books: Books) -> Till:
    return await Till(books).start()


async def test_every_user_has_an_address_of_their_own_and_keeps_it(till: Till) -> None:
    alice, bob = await till.books.funded([0, 0])
    first = [await till.address(alice) for _ in range(3)]
    assert len(set(first)) == 1
    assert await till.address(bob) != first[0]
    derived = ROOT.derive((0, 0)).private_key.public_key
    assert first[0] == address_of(derived, REGTEST)


def test_a_private_key_or_another_networks_key_is_refused_at_start() -> None:
    for key in (str(ROOT), str(ExtendedPrivateKey.from_seed(bytes(32), MAIN).neuter()), "xpub"):
        settings = SETTINGS.model_copy(update={"deposit_xpub": key})
        with pytest.raises(Bip32Error):
            deposits.DepositKeys(settings)


async def test_seen_is_pending_mined_is_credited_and_later_withdrawable(till: Till) -> None:
    (alice,) = await till.books.funded([0])
    txid = till.chain.pay(await till.address(alice), 500, 70)
    await till.look()
    assert await till.balances(alice) == (0, 0, 0, 570)
    await till.tell(till.chain.mine(txid))
    await till.look()
    await till.look()
    assert await till.balances(alice) == (570, 0, 0, 0)
    told = await till.books.announced(CREDITED)
    assert [(each["amount"], each["generation"]) for each in told] == [(500, 1), (70, 1)]
    await till.tell(till.chain.mine())
    assert (await till.balances(alice)).withdrawable == 0
    await till.tell(till.chain.mine())
    assert (await till.balances(alice)).withdrawable == 570


async def test_while_rounds_is_silent_deposits_wait(till: Till) -> None:
    (alice,) = await till.books.funded([0])
    txid = till.chain.pay(await till.address(alice), 500)
    block = till.chain.mine(txid)
    await till.look()
    assert await till.deposit() == ("pending", 0)
    await till.tell(block)
    await till.look()
    assert await till.deposit() == ("credited", 1)


async def test_blocks_out_of_order_twice_and_with_gaps_are_completed_from_the_source(
    till: Till,
) -> None:
    (alice,) = await till.books.funded([0])
    txid = till.chain.pay(await till.address(alice), 500)
    blocks = [till.chain.mine(), till.chain.mine(txid), till.chain.mine(), till.chain.mine()]
    await till.tell(blocks[3], blocks[1])
    await till.tell(blocks[3])
    await till.look()
    assert await till.deposit() == ("credited", 1)


@pytest.mark.parametrize("lie", ["other root", "other index", "no nodes", "unknown block"])
async def test_a_false_proof_credits_nothing(till: Till, lie: str) -> None:
    (alice,) = await till.books.funded([0])
    txid = till.chain.pay(await till.address(alice), 500)
    block = till.chain.mine("ab" * 32)
    await till.tell(block)
    true = Proof(txid, 1, block.header.hash, (block.txids[0],))
    till.chain.proofs[txid] = {
        "other root": true,
        "other index": replace(true, index=7),
        "no nodes": replace(true, index=0, nodes=()),
        "unknown block": replace(true, block_hash="cd" * 32),
    }[lie]
    await till.look()
    assert await till.deposit() == ("pending", 0)


@pytest.mark.parametrize("claim", ["another's output", "no such output", "wrong value"])
async def test_what_the_source_claims_is_looked_up_in_the_transaction(
    till: Till, claim: str
) -> None:
    alice, bob = await till.books.funded([0, 0])
    mine, other = await till.address(alice), await till.address(bob)
    txid = till.chain.pay(other, 500)
    del till.chain.claims[other]
    vout = 5 if claim == "no such output" else 0
    if claim == "wrong value":
        txid = till.chain.pay(mine, 20)
    till.chain.claims[mine] = [Unspent(txid, vout, 9_999, None)]
    await till.look()
    amounts = [amount for (amount,) in await till.books.rows("select amount from deposit")]
    assert amounts == ([20] if claim == "wrong value" else [])


async def test_an_invented_header_is_poison(till: Till) -> None:
    header = till.chain.mine().header
    weak = replace(header, bits=0x207FFFFE)
    with pytest.raises(HeaderError):
        await till.tell(Block(weak, ()))


async def reorganised(till: Till, *, keep: bool) -> tuple[UUID, str]:
    """A credited deposit whose block loses against a longer branch."""
    (alice,) = await till.books.funded([0])
    txid = till.chain.pay(await till.address(alice), 500)
    await till.tell(till.chain.mine(txid))
    await till.look()
    assert await till.deposit() == ("credited", 1)
    till.chain.drop(1)
    first = till.chain.mine(txid) if keep else till.chain.mine()
    await till.tell(first, till.chain.mine())
    return alice, txid


async def test_a_reorganisation_that_keeps_the_deposit_posts_nothing(till: Till) -> None:
    alice, _ = await reorganised(till, keep=True)
    await till.look()
    assert await till.deposit() == ("credited", 1)
    assert (await till.balances(alice)).available == 500
    assert await till.books.announced(REVERSED) == []


async def test_a_reorganisation_that_lacks_it_reverses_and_mined_again_credits_again(
    till: Till,
) -> None:
    alice, txid = await reorganised(till, keep=False)
    await till.look()
    assert await till.deposit() == ("pending", 1)
    assert await till.balances(alice) == (0, 0, 0, 500)
    await till.tell(till.chain.mine(txid))
    await till.look()
    assert await till.deposit() == ("credited", 2)
    assert (await till.balances(alice)).available == 500
    keys = "select key from journal where scope = 'deposit' order by id"
    assert await till.books.rows(keys) == [
        (f"deposit:{txid}:0:1",),
        (f"deposit:{txid}:0:reverse:1",),
        (f"deposit:{txid}:0:2",),
    ]


async def test_money_already_spent_becomes_a_debt_that_later_deposits_pay_first(
    till: Till,
) -> None:
    (alice, bob) = await till.books.funded([0, 0])
    address = await till.address(alice)
    txid = till.chain.pay(address, 500)
    await till.tell(till.chain.mine(txid))
    await till.look()
    async with till.books.database.transaction() as session:
        journal = await transfer_journal(session, alice, bob, 450, "gone")
        await ledger.post(session, [journal])
    till.chain.drop(1)
    await till.tell(till.chain.mine(), till.chain.mine())
    await till.look()
    debt = (
        "select posted from balance b join account a on a.id = b.account_id"
        " where a.kind = 'user_receivable'"
    )
    assert (await till.balances(alice)).available == 0
    assert await till.books.scalar(debt) == -450
    assert await till.books.available(bob) == 450
    await till.tell(till.chain.mine(txid))
    await till.look()
    assert (await till.balances(alice)).available == 50
    assert await till.books.scalar(debt) == 0


async def test_a_branch_that_comes_back_before_anything_was_reversed_changes_nothing(
    till: Till,
) -> None:
    (alice,) = await till.books.funded([0])
    txid = till.chain.pay(await till.address(alice), 500)
    first = till.chain.mine(txid)
    await till.tell(first)
    await till.look()
    old = list(till.chain.blocks)
    till.chain.drop(1)
    await till.tell(till.chain.mine(), till.chain.mine())
    assert await till.deposit() == ("disconnected", 1)
    till.chain.blocks = old
    await till.tell(till.chain.mine(), till.chain.mine())
    assert await till.deposit() == ("credited", 1)
    await till.look()
    assert (await till.balances(alice)).available == 500


async def test_a_source_that_still_follows_the_old_branch_reverses_nothing(till: Till) -> None:
    (alice,) = await till.books.funded([0])
    txid = till.chain.pay(await till.address(alice), 500)
    block = till.chain.mine(txid)
    await till.tell(block)
    await till.look()
    stale = await till.chain.tsc_proof(txid)
    assert stale is not None
    till.chain.drop(1)
    await till.tell(till.chain.mine(), till.chain.mine())
    till.chain.proofs[txid] = stale
    await till.look()
    assert await till.deposit() == ("disconnected", 1)
    assert (await till.balances(alice)).available == 500


async def test_a_source_that_is_down_is_weather(till: Till) -> None:
    (alice,) = await till.books.funded([0])
    till.chain.pay(await till.address(alice), 500)
    till.chain.down = True
    with pytest.raises(WhatsOnChainError):
        await till.look()
    await tolerating(till.look)()
    till.chain.down = False
    await till.look()
    assert (await till.balances(alice)).pending == 500


async def test_deposited_money_can_be_staked_at_once(till: Till) -> None:
    (alice,) = await till.books.funded([0])
    txid = till.chain.pay(await till.address(alice), 500)
    await till.tell(till.chain.mine(txid))
    await till.look()
    await Ballot(till.books).place((uuid7(), alice, uuid7(), 200))
    assert await till.balances(alice) == (300, 0, 200, 0)


async def test_forty_five_addresses_are_asked_for_in_groups(till: Till) -> None:
    users = await till.books.funded([0] * 45)
    for user in users:
        till.chain.pay(await till.address(user), 10)
    await till.look()
    assert await till.books.scalar("select count(*) from deposit") == 45


async def test_one_transaction_pays_many_and_is_taken_back_from_all(till: Till) -> None:
    users = await till.books.funded([0, 0, 0])
    addresses = [await till.address(user) for user in users]
    txid = till.chain.pay_many({address: 100 + n for n, address in enumerate(addresses)})
    await till.look()
    await till.tell(till.chain.mine(txid))
    await till.look()
    assert [await till.books.available(user) for user in users] == [100, 101, 102]
    till.chain.drop(1)
    await till.tell(till.chain.mine(), till.chain.mine())
    await till.look()
    assert [await till.books.available(user) for user in users] == [0, 0, 0]
    assert len(await till.books.announced(REVERSED)) == 3
