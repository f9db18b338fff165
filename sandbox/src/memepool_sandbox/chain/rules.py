"""What a node demands of a transaction before it enters the mempool.

The texts of refusals are those of the node's RPC, since clients match them by substring.
"""

from dataclasses import dataclass

from memepool_chain.tx import SEQUENCE_FINAL, Tx, TxError, TxOut, parse_tx
from memepool_sandbox.chain.scripts import ScriptRefusedError, check_scripts
from memepool_sandbox.chain.view import View, outpoints

COINBASE_MATURITY_BLOCKS = 100
LOCKTIME_IS_TIME_FROM = 500_000_000
_DATA_SCRIPT = b"\x00\x6a"  # OP_FALSE OP_RETURN: the only output that may carry no satoshis
_BYTES_PER_KB = 1000

ALREADY_IN_MEMPOOL = "Transaction already in the mempool"
ALREADY_KNOWN = "257: txn-already-known"
MISSING_INPUTS = "Missing inputs"


class RefusedError(Exception):
    """The node does not take the transaction; the text is the node's message."""


@dataclass(frozen=True)
class Policy:
    """What this node relays and mines; sizes in bytes, amounts in satoshis."""

    fee_rate_sats_per_kb_min: int = 50
    fee_sats_max: int = 10_000_000
    size_bytes_max: int = 1_000_000
    mempool_txs_max: int = 50_000
    block_txs_max: int = 10_000


def parse_raw(raw: bytes, policy: Policy) -> Tx:
    """The transaction in `raw`. Raises RefusedError."""
    if len(raw) > policy.size_bytes_max:
        raise RefusedError("64: tx-size")
    try:
        return parse_tx(raw, size_bytes_max=policy.size_bytes_max)
    except TxError as error:
        raise RefusedError("TX decode failed") from error


def check_transaction(
    tx: Tx, view: View, policy: Policy, *, height: int, median_time_s: int
) -> None:
    """Whether `tx` may enter the mempool of a node whose next block is at `height`.

    Raises RefusedError with the node's message, in the node's order of checks.
    """
    _check_alone(tx, policy, height, median_time_s)
    _check_unknown(tx, view)
    if view.unconfirmed_count >= policy.mempool_txs_max:
        raise RefusedError("259: mempool full")
    spent = _spent_outputs(tx, view, height)
    _check_fee(tx, sum(out.satoshis for out in spent), policy)
    try:
        check_scripts(tx, spent)
    except ScriptRefusedError as error:
        raise RefusedError(f"16: mandatory-script-verify-flag-failed ({error})") from error


def _check_alone(tx: Tx, policy: Policy, height: int, median_time_s: int) -> None:
    """The rules that need nothing but the transaction itself."""
    if tx.is_coinbase:
        raise RefusedError("16: bad-tx-coinbase")
    if len(tx.serialize()) > policy.size_bytes_max:
        raise RefusedError("64: tx-size")
    for out in tx.outputs:
        if out.satoshis == 0 and not out.script.startswith(_DATA_SCRIPT):
            raise RefusedError("64: dust")
    limit = height if tx.locktime < LOCKTIME_IS_TIME_FROM else median_time_s
    final = all(source.sequence == SEQUENCE_FINAL for source in tx.inputs)
    if tx.locktime >= limit and tx.locktime != 0 and not final:
        raise RefusedError("64: non-final")


def _check_unknown(tx: Tx, view: View) -> None:
    known = view.known(tx.txid)
    if known is None:
        return
    if known.height is None:
        raise RefusedError(ALREADY_IN_MEMPOOL)
    if view.has_unspent_output(tx):
        raise RefusedError(ALREADY_KNOWN)
    raise RefusedError(MISSING_INPUTS)  # a node without an index cannot tell: its inputs are spent


def _spent_outputs(tx: Tx, view: View, height: int) -> list[TxOut]:
    spent: list[TxOut] = []
    for outpoint in outpoints(tx):
        source, out = view.known(outpoint.txid), view.output(outpoint)
        if source is None or out is None:
            raise RefusedError(MISSING_INPUTS)
        spender = view.spender(outpoint)
        if spender is not None:
            spending = view.known(spender.txid)
            in_mempool = spending is not None and spending.height is None
            raise RefusedError("258: txn-mempool-conflict" if in_mempool else MISSING_INPUTS)
        if source.tx.is_coinbase and not is_mature(source.height, height):
            raise RefusedError("16: bad-txns-premature-spend-of-coinbase")
        spent.append(out)
    return spent


def is_mature(coinbase_height: int | None, height: int) -> bool:
    """Whether a coinbase of `coinbase_height` may be spent in a block at `height`."""
    return coinbase_height is not None and height - coinbase_height >= COINBASE_MATURITY_BLOCKS


def _check_fee(tx: Tx, spent_sats: int, policy: Policy) -> None:
    fee_sats = spent_sats - sum(out.satoshis for out in tx.outputs)
    if fee_sats < 0:
        raise RefusedError("16: bad-txns-in-belowout")
    size_bytes = len(tx.serialize())
    if fee_sats * _BYTES_PER_KB < size_bytes * policy.fee_rate_sats_per_kb_min:
        raise RefusedError("66: mempool min fee not met")
    if fee_sats > policy.fee_sats_max:
        raise RefusedError("256: absurdly-high-fee")
