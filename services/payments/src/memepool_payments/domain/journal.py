"""A journal before it is posted: movements of whole satoshis between accounts."""

import hashlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, TypeVar
from uuid import UUID

POSTED = "posted"
KEY_REUSED = "key_reused"
TOO_FAST = "too_fast"
TRANSFER_FEE = "transfer_fee"
"""The note on the fee line of a transfer, as `post_transfers` writes it."""

Item = TypeVar("Item")


class Movement(NamedTuple):
    """An amount in satoshis from one account to another. Its place in the journal is its line."""

    source: int
    target: int
    amount: int
    note: str | None = None


class NewJournal(NamedTuple):
    """What is to be posted, wholly or not at all, once per (scope, key).

    The scope names whose keys these are: `user:<id>`, or the cause of an internal movement. One
    of the movements must be from or to an account that the key stands for, so that whoever holds
    its lock is alone with the key.
    """

    scope: str
    key: str
    request_hash: bytes
    kind: str
    movements: Sequence[Movement]
    round_id: str | None = None
    sender_id: UUID | None = None
    recipient_id: UUID | None = None
    memo: str | None = None
    txid: str | None = None


class NewTransfer(NamedTuple):
    """Satoshis from one user's account to another's, once per sender and key."""

    sender_id: UUID
    recipient_id: UUID
    source: int
    target: int
    amount: int
    memo: str | None
    key: str
    request_hash: bytes


class Posting(NamedTuple):
    """What became of a journal: `posted`, a refusal, `key_reused`, or `too_fast` (not stored)."""

    journal_id: int
    outcome: str
    replayed: bool
    created_at: datetime


def request_hash(*parts: object) -> bytes:
    """The fingerprint of a request: the same key with another one is refused."""
    digest = hashlib.sha256()
    for part in parts:
        text = repr(part).encode()
        digest.update(len(text).to_bytes(4) + text)
    return digest.digest()


def without_repetitions(
    batch: Sequence[Item], key_of: Callable[[Item], Hashable]
) -> Iterator[Sequence[Item]]:
    """A batch in parts that name no key twice: posted one after the other, a repetition is told
    what has become of the first."""
    start = 0
    keys: set[Hashable] = set()
    for number, item in enumerate(batch):
        key = key_of(item)
        if key in keys:
            yield batch[start:number]
            start = number
            keys.clear()
        keys.add(key)
    yield batch[start:]


def moving(*movements: Movement) -> tuple[Movement, ...]:
    """Those that move something: a movement of zero does not exist."""
    return tuple(each for each in movements if each.amount)
