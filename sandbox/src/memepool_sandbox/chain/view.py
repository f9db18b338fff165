"""All transactions of the active chain and of the mempool, and who spends what among them.

One structure holds both, because a reorganisation moves transactions back and forth between them:
a transaction is confirmed when it has a height. The order in which transactions became known is
always topological (a parent is known before its child), so blocks can be filled in that order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from memepool_chain.address import script_hash
from memepool_chain.tx import Tx, TxOut


class Outpoint(NamedTuple):
    """An output of a transaction."""

    txid: str
    vout: int


class Spending(NamedTuple):
    """An input of a transaction."""

    txid: str
    vin: int


@dataclass(slots=True)
class Known:
    """A transaction, its place in the order of arrival, and its height once it is in a block."""

    tx: Tx
    order: int
    height: int | None


class View:
    """Transactions by id, by what they spend and by the scripts they touch."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}
        self._spender: dict[Outpoint, Spending] = {}
        self._touching: dict[str, dict[str, None]] = {}
        self._coins: dict[str, dict[Outpoint, None]] = {}
        self._unconfirmed: set[str] = set()
        self._order = 0

    def known(self, txid: str) -> Known | None:
        """The transaction, or None when neither chain nor mempool has it."""
        return self._known.get(txid)

    def output(self, outpoint: Outpoint) -> TxOut | None:
        """The output, spent or not, or None when it does not exist."""
        known = self._known.get(outpoint.txid)
        if known is None or outpoint.vout >= len(known.tx.outputs):
            return None
        return known.tx.outputs[outpoint.vout]

    def spender(self, outpoint: Outpoint) -> Spending | None:
        """Who spends the output, in a block or in the mempool."""
        return self._spender.get(outpoint)

    def coins(self, script: str) -> list[Outpoint]:
        """Outputs with this script hash that nothing spends, oldest first."""
        return list(self._coins.get(script, ()))

    def has_unspent_output(self, tx: Tx) -> bool:
        """Whether anything is left of a known transaction."""
        return any(Outpoint(tx.txid, n) not in self._spender for n in range(len(tx.outputs)))

    def touching(self, script: str) -> list[Known]:
        """Transactions that pay or spend this script hash, in order of arrival."""
        return [self._known[txid] for txid in self._touching.get(script, ())]

    def unconfirmed(self) -> list[Tx]:
        """The mempool, parents before children."""
        mempool = [self._known[txid] for txid in self._unconfirmed]
        return [known.tx for known in sorted(mempool, key=lambda known: known.order)]

    @property
    def unconfirmed_count(self) -> int:
        """How many transactions the mempool holds."""
        return len(self._unconfirmed)

    def spent_outputs(self, tx: Tx) -> list[TxOut]:
        """The outputs that the inputs spend, in their order. Raises KeyError if one is unknown."""
        return [self._known[outpoint.txid].tx.outputs[outpoint.vout] for outpoint in outpoints(tx)]

    def fee_sats(self, tx: Tx) -> int:
        """Inputs less outputs, for a transaction whose inputs are all known."""
        spent_sats = sum(out.satoshis for out in self.spent_outputs(tx))
        return spent_sats - sum(out.satoshis for out in tx.outputs)

    def conflicts(self, tx: Tx) -> list[str]:
        """Transactions that spend an output which `tx` spends too."""
        spenders = (self._spender.get(outpoint) for outpoint in outpoints(tx))
        return list(dict.fromkeys(s.txid for s in spenders if s and s.txid != tx.txid))

    def add(self, tx: Tx, height: int | None) -> None:
        """Take up a checked transaction that conflicts with nothing."""
        txid = tx.txid
        self._known[txid] = Known(tx, self._order, height)
        self._order += 1
        if height is None:
            self._unconfirmed.add(txid)
        for vin, outpoint in enumerate(outpoints(tx)):
            self._spender[outpoint] = Spending(txid, vin)
        for outpoint, script in self._spent_scripts(tx):
            self._touching.setdefault(script, {})[txid] = None
            self._coins[script].pop(outpoint, None)
        for vout, out in enumerate(tx.outputs):
            script = script_hash(out.script)
            self._touching.setdefault(script, {})[txid] = None
            self._coins.setdefault(script, {})[Outpoint(txid, vout)] = None

    def confirm(self, tx: Tx, height: int) -> None:
        """A block has the transaction: it is confirmed, whatever conflicts with it is gone."""
        for txid in self.conflicts(tx):
            self.evict(txid)
        known = self._known.get(tx.txid)
        if known is None:
            self.add(tx, height)
            return
        known.height = height
        self._unconfirmed.discard(tx.txid)

    def unconfirm(self, txid: str) -> None:
        """The block that had the transaction is no longer active: back to the mempool."""
        self._known[txid].height = None
        self._unconfirmed.add(txid)

    def evict(self, txid: str) -> None:
        """Forget a transaction and everything that descends from it."""
        for known in sorted(self._family(txid), key=lambda known: known.order, reverse=True):
            self._remove(known.tx)

    def _family(self, txid: str) -> list[Known]:
        """The transaction and its descendants, as far as they are known."""
        found: dict[str, Known] = {}
        pending = [txid]
        while pending:
            known = self._known.get(txid := pending.pop())
            if known is None or txid in found:
                continue
            found[txid] = known
            children = (self._spender.get(Outpoint(txid, n)) for n in range(len(known.tx.outputs)))
            pending += [spending.txid for spending in children if spending]
        return list(found.values())

    def _remove(self, tx: Tx) -> None:
        """Undo `add`; nothing spends the transaction any more."""
        txid = tx.txid
        for vout, out in enumerate(tx.outputs):
            script = script_hash(out.script)
            self._touching[script].pop(txid, None)
            self._coins[script].pop(Outpoint(txid, vout), None)
        for outpoint, script in self._spent_scripts(tx):
            self._touching[script].pop(txid, None)
            self._coins[script][outpoint] = None
        for outpoint in outpoints(tx):
            del self._spender[outpoint]
        self._unconfirmed.discard(txid)
        del self._known[txid]

    def _spent_scripts(self, tx: Tx) -> Iterator[tuple[Outpoint, str]]:
        for outpoint in outpoints(tx):
            source = self.output(outpoint)
            if source is not None:
                yield outpoint, script_hash(source.script)


def outpoints(tx: Tx) -> Iterator[Outpoint]:
    """What a transaction spends; nothing for a coinbase."""
    if not tx.is_coinbase:
        yield from (Outpoint(source.prev_txid, source.prev_vout) for source in tx.inputs)
