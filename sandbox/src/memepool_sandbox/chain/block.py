"""Blocks: coinbase transactions, proof of work, and how a block is written down."""

import secrets
import struct
from dataclasses import dataclass, replace
from functools import cached_property

from memepool_chain.header import HEADER_SIZE, Header, meets_target, parse_header
from memepool_chain.merkle import merkle_root
from memepool_chain.tx import Tx, TxIn, TxOut, parse_tx

BLOCK_VERSION = 0x20000000
SUBSIDY_SATS = 50 * 100_000_000
HALVING_BLOCKS = 150  # regtest's interval
_NO_TXID = "00" * 32
_NO_VOUT = 0xFFFFFFFF
_NONCES = 1 << 32
_TX_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Block:
    """A header and the transactions under its merkle root, the coinbase first."""

    header: Header
    txs: tuple[Tx, ...]

    @cached_property
    def hash(self) -> str:
        """The header's hash, display order."""
        return self.header.hash

    @cached_property
    def txids(self) -> list[str]:
        """The transactions' ids in block order."""
        return [tx.txid for tx in self.txs]

    @cached_property
    def size_bytes(self) -> int:
        """Header, count (as one byte) and transactions."""
        return HEADER_SIZE + 1 + sum(len(tx.serialize()) for tx in self.txs)


def subsidy_sats(height: int) -> int:
    """New coins of the block at `height`, in satoshis."""
    return SUBSIDY_SATS >> (height // HALVING_BLOCKS)


def coinbase(height: int, value_sats: int, script: bytes) -> Tx:
    """The transaction that creates a block's coins.

    Its input script begins with the height (BIP 34) and ends with eight random bytes, so that no
    two coinbases share an id, not even at the same height of two branches.
    """
    unlocking = _push_number(height) + b"\x08" + secrets.token_bytes(8)
    source = TxIn(_NO_TXID, _NO_VOUT, unlocking)
    return Tx(1, (source,), (TxOut(value_sats, script),))


def mine_block(prev_hash: str, time_s: int, bits: int, txs: tuple[Tx, ...]) -> Block:
    """Find the nonce; two tries on average at regtest's difficulty."""
    root = merkle_root([tx.txid for tx in txs])
    header = Header(BLOCK_VERSION, prev_hash, root, time_s, bits, 0)
    for nonce in range(_NONCES):
        candidate = replace(header, nonce=nonce)
        if meets_target(candidate):
            return Block(candidate, txs)
    raise AssertionError("no nonce meets the target: the bits are not regtest's")


def encode_block(block: Block) -> bytes:
    """Header, then every transaction behind its length (u32)."""
    parts = [block.header.serialize()]
    for tx in block.txs:
        raw = tx.serialize()
        parts += [_TX_LENGTH.pack(len(raw)), raw]
    return b"".join(parts)


def decode_block(data: bytes) -> Block:
    """The reverse of `encode_block`. Raises what the parsers raise, and ValueError."""
    header = parse_header(data[:HEADER_SIZE])
    txs: list[Tx] = []
    at = HEADER_SIZE
    while at < len(data):
        length: int = _TX_LENGTH.unpack_from(data, at)[0]
        at += _TX_LENGTH.size
        txs.append(parse_tx(data[at : at + length]))
        at += length
    block = Block(header, tuple(txs))
    if merkle_root(block.txids) != header.merkle_root:
        raise ValueError(f"block {block.hash} does not contain what its merkle root says")
    return block


def _push_number(value: int) -> bytes:
    """`value` as a script number: sign and magnitude, little-endian, minimal."""
    magnitude = value.to_bytes(value.bit_length() // 8 + 1, "little")
    return bytes([len(magnitude)]) + magnitude
