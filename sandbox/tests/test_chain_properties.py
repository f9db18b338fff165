"""Whatever is done to the chain, no coin appears or vanishes, and a restart changes nothing."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memepool_chain.address import script_hash
from memepool_chain.header import meets_target
from memepool_chain.merkle import merkle_root
from memepool_chain.tx import TxOut
from memepool_sandbox.chain.block import subsidy_sats
from memepool_sandbox.chain.faucet import FaucetError
from memepool_sandbox.chain.node import PREMINE_BLOCKS, Node
from memepool_sandbox.chain.view import Outpoint, View, outpoints
from memepool_sandbox.wallet import Wallet

WALLET = Wallet(b"machine")
SCRIPT_HASH = script_hash(WALLET.script)


def rebuilt(node: Node) -> View:
    """The view as chain and mempool alone determine it."""
    view = View()
    for height in range(node.branches.tip.height + 1):
        for tx in node.branches.at(height).block.txs:
            view.add(tx, height)
    for tx in node.view.unconfirmed():
        view.add(tx, None)
    return view


def unspent(node: Node, view: View) -> dict[Outpoint, int]:
    """Every output that nothing spends, with its satoshis."""
    txs = [tx for h in range(node.branches.tip.height + 1) for tx in node.branches.at(h).block.txs]
    found = {
        Outpoint(tx.txid, vout): out.satoshis
        for tx in [*txs, *view.unconfirmed()]
        for vout, out in enumerate(tx.outputs)
    }
    return {outpoint: sats for outpoint, sats in found.items() if view.spender(outpoint) is None}


class ChainMachine(RuleBasedStateMachine):
    """Random commands, in random order, with restarts among them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "chain"

    @initialize()
    def open_new(self) -> None:
        self.node = Node.open(self.path)
        self.funded: list[str] = []

    def teardown(self) -> None:
        if hasattr(self, "node"):
            self.node.close()
        self.folder.cleanup()

    @rule(amount_sats=st.integers(1_000, 10**9))
    def fund(self, amount_sats: int) -> None:
        self.funded.append(self.node.fund(WALLET.address, amount_sats))

    @rule(data=st.data())
    def spend(self, data: st.DataObject) -> None:
        coins = self.node.view.coins(SCRIPT_HASH)
        if coins:
            outpoint = data.draw(st.sampled_from(coins))
            out = self.node.view.output(outpoint)
            assert out is not None
            coin = WALLET.coin(outpoint.txid, outpoint.vout, out.satoshis)
            paid = data.draw(st.integers(1, max(1, out.satoshis // 2)))
            if out.satoshis > 600:
                self.node.submit(WALLET.pay([coin], [TxOut(paid, WALLET.script)]).serialize())

    @rule(count=st.integers(1, 3))
    def mine(self, count: int) -> None:
        before = self.node.branches.tip
        hashes = self.node.mine(count)
        assert self.node.branches.at(before.height + count).block.hash == hashes[-1]
        assert self.node.view.unconfirmed() == []

    @precondition(lambda self: self.node.branches.tip.height > PREMINE_BLOCKS)
    @rule(data=st.data(), keep=st.booleans())
    def reorg(self, data: st.DataObject, keep: bool) -> None:
        height = self.node.branches.tip.height
        depth = data.draw(st.integers(1, min(4, height - PREMINE_BLOCKS)))
        self.node.reorg(depth, keep_transactions=keep)
        assert self.node.branches.tip.height == height + 1

    @precondition(lambda self: self.funded)
    @rule(data=st.data())
    def double_spend(self, data: st.DataObject) -> None:
        txid = data.draw(st.sampled_from(self.funded))
        if self.node.view.known(txid) is None:  # an earlier reorganisation took it
            with pytest.raises(FaucetError, match="No such transaction"):
                self.node.double_spend(txid)
            return
        rival = self.node.double_spend(txid)
        assert self.node.view.known(txid) is None
        assert self.node.view.known(rival) is not None

    @rule()
    def restart(self) -> None:
        before = unspent(self.node, self.node.view)
        tip = self.node.branches.tip.block.hash
        self.node.close()
        self.node = Node.open(self.path)
        assert self.node.branches.tip.block.hash == tip
        assert unspent(self.node, self.node.view) == before

    @invariant()
    def no_coin_appears_or_vanishes(self) -> None:
        heights = range(self.node.branches.tip.height + 1)
        created = sum(subsidy_sats(height) for height in heights)
        waiting_fees = sum(self.node.view.fee_sats(tx) for tx in self.node.view.unconfirmed())
        total = sum(unspent(self.node, self.node.view).values())
        assert total == created - waiting_fees

    @invariant()
    def the_view_is_what_chain_and_mempool_say(self) -> None:
        fresh = rebuilt(self.node)
        assert unspent(self.node, fresh) == unspent(self.node, self.node.view)
        assert set(fresh.coins(SCRIPT_HASH)) == set(self.node.view.coins(SCRIPT_HASH))
        touching = {known.tx.txid for known in fresh.touching(SCRIPT_HASH)}
        assert touching == {known.tx.txid for known in self.node.view.touching(SCRIPT_HASH)}

    @invariant()
    def blocks_are_linked_and_hold_what_they_say(self) -> None:
        for height in range(PREMINE_BLOCKS, self.node.branches.tip.height + 1):
            block = self.node.branches.at(height).block
            assert meets_target(block.header)
            assert block.header.merkle_root == merkle_root(block.txids)
            earlier = set(block.txids)
            for tx in reversed(block.txs):  # parents stand before their children
                earlier.discard(tx.txid)
                in_block = {o.txid for o in outpoints(tx)} & set(block.txids)
                assert in_block <= earlier


TestChain = ChainMachine.TestCase
TestChain.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)

_VICTIM = """
import sys
from pathlib import Path
from memepool_sandbox.chain.node import Node
node = Node.open(Path(sys.argv[1]))
while True:
    print(node.fund(sys.argv[2], 1_000), flush=True)
    print(node.mine()[0], flush=True)
"""


def test_sigkill_loses_nothing_that_was_said(tmp_path: Path) -> None:
    """The process is killed while it writes as fast as it can."""
    path, said = tmp_path / "chain", list[str]()
    for _ in range(3):
        victim = subprocess.Popen(
            [sys.executable, "-c", _VICTIM, str(path), WALLET.address],
            stdout=subprocess.PIPE,
            text=True,
        )
        with victim:
            assert victim.stdout is not None
            said += [victim.stdout.readline().strip() for _ in range(20)]
            victim.send_signal(signal.SIGKILL)
            said += [line.strip() for line in victim.stdout if line.endswith("\n")]
        node = Node.open(path)
        for txid, block_hash in zip(said[::2], said[1::2], strict=False):
            proof = node.proof(txid)
            assert proof is not None
            assert proof[0].block.hash == block_hash
        if len(said) % 2:
            assert node.view.known(said.pop()) is not None
        node.close()
