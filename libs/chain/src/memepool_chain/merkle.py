"""Merkle trees of blocks: the root of a list of txids, and proofs that one is in it (TSC).

A proof lists, from the leaf upwards, the other node of each pair; "*" stands for a node that is
paired with itself because the level has an odd number of nodes.
"""

from collections.abc import Sequence

from memepool_chain.hashing import display_hex, internal_bytes, is_hash_hex, sha256d

DUPLICATE = "*"
_DEPTH_MAX = 32  # 2**32 transactions: no block comes near it


class MerkleError(ValueError):
    """A tree or proof that cannot be."""


def merkle_root(txids: Sequence[str]) -> str:
    """Return the merkle root of a block's txids in block order; MerkleError for an empty block."""
    return display_hex(_levels(txids)[-1][0])


def branch(txids: Sequence[str], index: int) -> list[str]:
    """Return the TSC nodes that prove the txid at this index; MerkleError."""
    if not 0 <= index < len(txids):
        raise MerkleError("the index is outside the block")
    nodes = []
    for level in _levels(txids)[:-1]:
        sibling = index ^ 1
        nodes.append(display_hex(level[sibling]) if sibling < len(level) else DUPLICATE)
        index >>= 1
    return nodes


def root_from_tsc(txid: str, index: int, nodes: Sequence[str]) -> str:
    """Fold a proof up to the merkle root it leads to; MerkleError if it cannot be a proof.

    Whoever trusts the answer must have parsed the transaction (parse_tx refuses 64 bytes) and
    compares the root with a header that was checked.
    """
    if len(nodes) > _DEPTH_MAX:
        raise MerkleError(f"a proof has at most {_DEPTH_MAX} nodes")
    if not 0 <= index < 1 << len(nodes):
        raise MerkleError("the index does not fit the depth of the proof")
    node = _hash_bytes(txid)
    for sibling_hex in nodes:
        if sibling_hex == DUPLICATE:
            if index & 1:
                raise MerkleError("a right node cannot be its own pair")
            node = sha256d(node + node)
        else:
            sibling = _hash_bytes(sibling_hex)
            if index & 1 and sibling == node:
                raise MerkleError("a right node cannot equal its left one")
            node = sha256d(sibling + node if index & 1 else node + sibling)
        index >>= 1
    return display_hex(node)


def _levels(txids: Sequence[str]) -> list[list[bytes]]:
    if not txids:
        raise MerkleError("a block has at least one transaction")
    level = [_hash_bytes(txid) for txid in txids]
    levels = [level]
    while len(level) > 1:
        padded = [*level, level[-1]] if len(level) % 2 else level
        level = [sha256d(padded[i] + padded[i + 1]) for i in range(0, len(padded), 2)]
        levels.append(level)
    return levels


def _hash_bytes(value: str) -> bytes:
    if not is_hash_hex(value):
        raise MerkleError("a node is 64 lowercase hexadecimal digits")
    return internal_bytes(value)
