"""Transactions as bytes: a strict parser for what strangers send, and the way back."""

from dataclasses import dataclass
from functools import cached_property

from memepool_chain.hashing import display_hex, internal_bytes, sha256d
from memepool_chain.varint import EncodingError, Reader, encode_varint

SATOSHIS_MAX = 21_000_000 * 100_000_000
TX_SIZE_BYTES_MAX = 10_000_000  # what nodes relay by default; consensus allows more
SEQUENCE_FINAL = 0xFFFF_FFFF
_INPUT_SIZE_MIN = 32 + 4 + 1 + 4
_OUTPUT_SIZE_MIN = 8 + 1
_MERKLE_NODE_SIZE = 64
_NULL_TXID = "00" * 32


class TxError(ValueError):
    """Not a transaction: `code` is `malformed_transaction` or `transaction_too_large`."""

    def __init__(self, detail: str, code: str = "malformed_transaction") -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class TxIn:
    """An input: the coin it spends and the script that unlocks it."""

    prev_txid: str
    prev_vout: int
    script: bytes = b""
    sequence: int = SEQUENCE_FINAL

    def outpoint(self) -> bytes:
        """Return the 36 bytes that name the coin."""
        return internal_bytes(self.prev_txid) + self.prev_vout.to_bytes(4, "little")

    def serialize(self) -> bytes:
        """Return the input's bytes."""
        return (
            self.outpoint()
            + encode_varint(len(self.script))
            + self.script
            + self.sequence.to_bytes(4, "little")
        )


@dataclass(frozen=True, slots=True)
class TxOut:
    """An output: satoshis and the script that locks them."""

    satoshis: int
    script: bytes

    def serialize(self) -> bytes:
        """Return the output's bytes."""
        return self.satoshis.to_bytes(8, "little") + encode_varint(len(self.script)) + self.script


@dataclass(frozen=True)
class Tx:
    """A transaction. `version` is the unsigned reading of its four bytes."""

    version: int
    inputs: tuple[TxIn, ...]
    outputs: tuple[TxOut, ...]
    locktime: int = 0

    def serialize(self) -> bytes:
        """Return the raw transaction."""
        return b"".join(
            (
                self.version.to_bytes(4, "little"),
                encode_varint(len(self.inputs)),
                *(tx_in.serialize() for tx_in in self.inputs),
                encode_varint(len(self.outputs)),
                *(tx_out.serialize() for tx_out in self.outputs),
                self.locktime.to_bytes(4, "little"),
            )
        )

    @cached_property
    def txid(self) -> str:
        """The transaction id, hex in display order."""
        return display_hex(sha256d(self.serialize()))

    # What every input's signature commits to, hashed once for all of them (see signing.py).

    @cached_property
    def prevouts_hash(self) -> bytes:
        """Double SHA-256 over all outpoints."""
        return sha256d(b"".join(tx_in.outpoint() for tx_in in self.inputs))

    @cached_property
    def sequences_hash(self) -> bytes:
        """Double SHA-256 over all sequence numbers."""
        return sha256d(b"".join(tx_in.sequence.to_bytes(4, "little") for tx_in in self.inputs))

    @cached_property
    def outputs_hash(self) -> bytes:
        """Double SHA-256 over all outputs."""
        return sha256d(b"".join(tx_out.serialize() for tx_out in self.outputs))

    @property
    def is_coinbase(self) -> bool:
        """Whether it creates coins: its only input spends nothing."""
        return len(self.inputs) == 1 and self.inputs[0].prev_txid == _NULL_TXID


def parse_tx(raw: bytes, *, size_bytes_max: int = TX_SIZE_BYTES_MAX) -> Tx:
    """Read one whole transaction, nothing before and nothing after it; TxError.

    Refuses 64 bytes (two hashes side by side in a merkle tree can be passed off as such), lengths
    not written in their shortest form (serialize() would give another txid), no inputs, no outputs,
    a coin spent twice, and amounts above 21 million coins.
    """
    if len(raw) > size_bytes_max:
        raise TxError(f"larger than {size_bytes_max} bytes", code="transaction_too_large")
    if len(raw) == _MERKLE_NODE_SIZE:
        raise TxError("64 bytes could be an inner node of a merkle tree")
    reader = Reader(raw)
    try:
        tx = _read_tx(reader)
    except EncodingError as error:
        raise TxError(f"unreadable: {error}") from None
    if reader.remaining:
        raise TxError(f"{reader.remaining} bytes after the end")
    _check(tx)
    return tx


def _read_tx(reader: Reader) -> Tx:
    return Tx(
        version=reader.uint(4),
        inputs=tuple(_read_input(reader) for _ in range(reader.count(_INPUT_SIZE_MIN))),
        outputs=tuple(_read_output(reader) for _ in range(reader.count(_OUTPUT_SIZE_MIN))),
        locktime=reader.uint(4),
    )


def _read_input(reader: Reader) -> TxIn:
    return TxIn(
        prev_txid=display_hex(reader.take(32)),
        prev_vout=reader.uint(4),
        script=reader.take(reader.varint()),
        sequence=reader.uint(4),
    )


def _read_output(reader: Reader) -> TxOut:
    return TxOut(satoshis=reader.uint(8), script=reader.take(reader.varint()))


def _check(tx: Tx) -> None:
    if not tx.inputs:
        raise TxError("no inputs")
    if not tx.outputs:
        raise TxError("no outputs")
    if len({(tx_in.prev_txid, tx_in.prev_vout) for tx_in in tx.inputs}) != len(tx.inputs):
        raise TxError("the same coin is spent twice")
    if any(tx_in.prev_txid == _NULL_TXID for tx_in in tx.inputs) and not tx.is_coinbase:
        raise TxError("an input without a coin in a transaction that is no coinbase")
    if sum(tx_out.satoshis for tx_out in tx.outputs) > SATOSHIS_MAX:
        raise TxError("outputs above 21 million coins")
