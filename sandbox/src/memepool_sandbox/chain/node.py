"""The node: one chain, one mempool, one faucet, and a journal that survives any death.

All methods are plain functions that finish what they do; call them from one thread. Every change
is written to the journal before it takes effect, and replaying the journal applies the very same
changes, so a restarted node stands where the old one stood.
"""

import enum
from pathlib import Path
from typing import Self

from memepool_chain.address import decode_p2pkh, p2pkh_script
from memepool_chain.header import parse_header
from memepool_chain.keys import PrivateKey
from memepool_chain.merkle import branch
from memepool_chain.network import REGTEST, Network
from memepool_chain.tx import Tx, parse_tx
from memepool_common.clock import Clock, SystemClock
from memepool_sandbox.chain.block import (
    Block,
    coinbase,
    decode_block,
    encode_block,
    mine_block,
    subsidy_sats,
)
from memepool_sandbox.chain.branches import (
    MEDIAN_TIME_BLOCKS,
    Branches,
    Entry,
    Switch,
    UnknownBlockError,
    median,
)
from memepool_sandbox.chain.faucet import FUND_SATS_MAX, Faucet, FaucetError
from memepool_sandbox.chain.journal import Journal, JournalError
from memepool_sandbox.chain.rules import (
    COINBASE_MATURITY_BLOCKS,
    Policy,
    check_transaction,
    parse_raw,
)
from memepool_sandbox.chain.scripts import check_scripts
from memepool_sandbox.chain.view import Known, View, outpoints

FAUCET_BLOCKS = 10  # blocks of the first hundred whose coins are mature from the start
PREMINE_BLOCKS = COINBASE_MATURITY_BLOCKS + FAUCET_BLOCKS
PREMINE_SPACING_S = 600
MINE_BLOCKS_MAX = 1_000
REORG_DEPTH_MAX = COINBASE_MATURITY_BLOCKS - 1  # deeper ones would take mature coins away

# The first block of every Bitcoin network has this one transaction; nobody can spend it.
_GENESIS_COINBASE = bytes.fromhex(
    "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d04ffff001d"
    "0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e6b206f66"
    "207365636f6e64206261696c6f757420666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0fe55"
    "48271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba"
    "0b8d578a4c702b6bf11d5fac00000000"
)


class _Record(enum.IntEnum):
    """What a journal's record holds."""

    FAUCET_KEY = 1  # 32 secret bytes; always the first record
    TX = 2  # a raw transaction that the mempool accepted
    REPLACEMENT = 3  # a raw transaction that entered the mempool in place of its conflicts
    BLOCK = 4  # a block; if the chain switches, transactions of the left branch are kept
    PURGING_BLOCK = 5  # a block; if the chain switches, transactions of the left branch are dropped


class ReorgError(Exception):
    """The chain cannot be reorganised this deep."""


class Node:
    """A BSV node on a network of its own."""

    def __init__(self, journal: Journal, network: Network, policy: Policy, clock: Clock) -> None:
        self.network = network
        self.policy = policy
        self._clock = clock
        self._journal = journal
        genesis = Block(parse_header(network.genesis_header), (parse_tx(_GENESIS_COINBASE),))
        self.branches = Branches(genesis)
        self.view = View()
        self.view.add(genesis.txs[0], 0)
        self._faucet = self._replay()
        missing = PREMINE_BLOCKS - self.branches.tip.height
        if missing > 0:
            self._extend(self.branches.tip, missing, [], _Record.BLOCK, PREMINE_SPACING_S)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        network: Network = REGTEST,
        policy: Policy | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """The node whose journal is at `path`, new or as it was left.

        Raises JournalError when the file is held by another process or damaged.
        """
        journal = Journal(path)
        try:
            return cls(journal, network, policy or Policy(), clock or SystemClock())
        except BaseException:
            journal.close()
            raise

    def close(self) -> None:
        """Give the journal back."""
        self._journal.close()

    # Transactions

    def submit(self, raw: bytes) -> str:
        """Check a raw transaction and take it into the mempool; its id.

        Raises RefusedError with the node's message.
        """
        tx = parse_raw(raw, self.policy)
        tip = self.branches.tip
        check_transaction(
            tx,
            self.view,
            self.policy,
            height=tip.height + 1,
            median_time_s=self.branches.median_time_s(tip),
        )
        self._write((_Record.TX, raw))
        return tx.txid

    def fund(self, address: str, amount_sats: int) -> str:
        """Pay `amount_sats` from the faucet to `address`; the transaction's id.

        Raises FaucetError, and AddressError for what is no address of this network.
        """
        if not 0 < amount_sats <= FUND_SATS_MAX:
            raise FaucetError("bad_amount", f"satoshis must be between 1 and {FUND_SATS_MAX}.")
        script = p2pkh_script(decode_p2pkh(address, self.network))
        height = self.branches.tip.height + 1
        return self.submit(self._faucet.pay(self.view, script, amount_sats, height).serialize())

    def double_spend(self, txid: str) -> str:
        """Replace a faucet's transaction by one that conflicts with it; the new one's id.

        An unconfirmed transaction leaves the mempool; for a confirmed one, a longer branch whose
        first block has the conflicting transaction replaces its block and all that follow.
        Raises FaucetError `unknown_transaction` or `not_ours`, ReorgError when it lies too deep.
        """
        known = self.view.known(txid)
        if known is None:
            raise FaucetError("unknown_transaction", "No such transaction in chain or mempool.")
        rival = self._faucet.double_spend(self.view, known.tx)
        check_scripts(rival, self.view.spent_outputs(rival))
        if known.height is None:
            self._write((_Record.REPLACEMENT, rival.serialize()))
        else:
            depth = self.branches.tip.height - known.height + 1
            fork = self._fork_point(depth)
            txs = self._with_ancestors(rival, fork.height)
            self._extend(fork, depth + 1, txs, _Record.BLOCK)
        return rival.txid

    # Blocks

    def mine(self, count: int = 1) -> list[str]:
        """Mine blocks on the tip, the mempool's transactions in the first; the blocks' hashes."""
        if not 0 < count <= MINE_BLOCKS_MAX:
            raise ValueError(f"blocks must be between 1 and {MINE_BLOCKS_MAX}")
        txs = self.view.unconfirmed()[: self.policy.block_txs_max]
        return self._extend(self.branches.tip, count, txs, _Record.BLOCK)

    def reorg(self, depth: int, *, keep_transactions: bool = True) -> list[str]:
        """Replace the last `depth` blocks by `depth` + 1 empty ones; the new blocks' hashes.

        Transactions of the replaced blocks return to the mempool, or vanish with their
        descendants unless `keep_transactions`. Raises ReorgError when it is too deep.
        """
        record = _Record.BLOCK if keep_transactions else _Record.PURGING_BLOCK
        return self._extend(self._fork_point(depth), depth + 1, [], record)

    def proof(self, txid: str) -> tuple[Entry, int, list[str]] | None:
        """A confirmed transaction's block, index and merkle branch, or None."""
        known = self.view.known(txid)
        if known is None or known.height is None:
            return None
        entry = self.branches.at(known.height)
        index = entry.block.txids.index(txid)
        return entry, index, branch(entry.block.txids, index)

    # How changes happen

    def _replay(self) -> Faucet:
        """Apply what the journal holds; a new journal begins with a new faucet's key."""
        faucet: Faucet | None = None
        for kind, payload in self._journal.records():
            try:
                if faucet is None:
                    faucet = Faucet(_faucet_key(kind, payload))
                else:
                    self._apply(_Record(kind), payload)
            except (ValueError, UnknownBlockError) as error:
                raise JournalError(f"a record of the chain cannot be read: {error}") from error
        if faucet is None:
            key = PrivateKey.generate()
            self._journal.append((_Record.FAUCET_KEY, key.to_bytes()))
            faucet = Faucet(key)
        return faucet

    def _write(self, *records: tuple[_Record, bytes]) -> None:
        self._journal.append(*records)
        for kind, payload in records:
            self._apply(kind, payload)

    def _apply(self, kind: _Record, payload: bytes) -> None:
        if kind in (_Record.BLOCK, _Record.PURGING_BLOCK):
            switch = self.branches.add(decode_block(payload))
            self._follow(switch, keep=kind == _Record.BLOCK)
            return
        tx = parse_tx(payload)
        if kind == _Record.REPLACEMENT:
            for txid in self.view.conflicts(tx):
                self.view.evict(txid)
        self.view.add(tx, None)

    def _follow(self, switch: Switch, *, keep: bool) -> None:
        """Move transactions between chain and mempool as the chain moved."""
        for entry in switch.disconnected:
            for tx in reversed(entry.block.txs):
                if keep and not tx.is_coinbase:
                    self.view.unconfirm(tx.txid)
                else:
                    self.view.evict(tx.txid)
        for entry in switch.connected:
            for tx in entry.block.txs:
                self.view.confirm(tx, entry.height)

    def _extend(
        self, parent: Entry, count: int, txs: list[Tx], kind: _Record, spacing_s: int = 0
    ) -> list[str]:
        """Mine `count` blocks on `parent`, `txs` in the first, and write them down together."""
        now_s = int(self._clock.now().timestamp())
        times_s = self.branches.last_times_s(parent)
        prev_hash, bits = parent.block.hash, self.network.pow_limit_bits
        blocks: list[Block] = []
        for left in reversed(range(count)):
            height = parent.height + count - left
            included = [] if blocks else txs
            fees_sats = sum(self.view.fee_sats(tx) for tx in included)
            reward = coinbase(height, subsidy_sats(height) + fees_sats, self._faucet.script)
            time_s = max(median(times_s) + 1, now_s - left * spacing_s)
            block = mine_block(prev_hash, time_s, bits, (reward, *included))
            blocks.append(block)
            prev_hash, times_s = block.hash, [*times_s, time_s][-MEDIAN_TIME_BLOCKS:]
        self._write(*((kind, encode_block(block)) for block in blocks))
        return [block.hash for block in blocks]

    def _fork_point(self, depth: int) -> Entry:
        """The block that stays when the last `depth` are replaced."""
        height = self.branches.tip.height - depth
        if not 0 < depth <= REORG_DEPTH_MAX or height < PREMINE_BLOCKS:
            deepest = min(REORG_DEPTH_MAX, self.branches.tip.height - PREMINE_BLOCKS)
            raise ReorgError(f"depth must be between 1 and {deepest} here, not {depth}.")
        return self.branches.at(height)

    def _with_ancestors(self, tx: Tx, above_height: int) -> list[Tx]:
        """`tx` behind those of its ancestors that no block up to `above_height` has."""
        found: dict[str, Known] = {}
        pending = [outpoint.txid for outpoint in outpoints(tx)]
        while pending:
            known = self.view.known(txid := pending.pop())
            if known is None or txid in found:
                continue
            if known.height is None or known.height > above_height:
                found[txid] = known
                pending += [outpoint.txid for outpoint in outpoints(known.tx)]
        ancestors = sorted(found.values(), key=lambda known: known.order)
        return [*(known.tx for known in ancestors), tx]


def _faucet_key(kind: int, payload: bytes) -> PrivateKey:
    if kind != _Record.FAUCET_KEY:
        raise ValueError("the first record is not the faucet's key")
    return PrivateKey.from_bytes(payload)
