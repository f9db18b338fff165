"""The hash chain over the ledger: what a block is, and how its hashes are made.

rows hash = SHA-256 over the canonical line of each journal, in order of their numbers, each line
preceded by its length; block hash = SHA-256 over the block before, the block's numbers and the
rows hash. Integers have 8 bytes, big-endian.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

NO_BLOCK = bytes(32)
JOURNALS_MAX = 2_000


class Row(NamedTuple):
    """A journal with its movements as one canonical line, and how many movements those are."""

    line: str
    movements: int


class Block(NamedTuple):
    """The journals numbered first to last; some numbers may never have been used."""

    seq: int
    first_journal: int
    last_journal: int
    journals: int
    movements: int
    prev_hash: bytes
    rows_hash: bytes
    hash: bytes


def block_of(
    before: Block | None, first_journal: int, last_journal: int, rows: Iterable[Row]
) -> Block:
    """The block over these journals, after the block before."""
    seq, prev_hash = (1, NO_BLOCK) if before is None else (before.seq + 1, before.hash)
    digest = hashlib.sha256()
    journals = movements = 0
    for row in rows:
        data = row.line.encode()
        digest.update(len(data).to_bytes(8) + data)
        journals += 1
        movements += row.movements
    numbers = (seq, first_journal, last_journal, journals, movements)
    rows_hash = digest.digest()
    packed = b"".join(number.to_bytes(8) for number in numbers)
    block_hash = hashlib.sha256(prev_hash + packed + rows_hash).digest()
    return Block(*numbers, prev_hash, rows_hash, block_hash)
