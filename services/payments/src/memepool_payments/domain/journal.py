"""A journal before it is posted: legs in whole satoshis that sum to zero."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

POSTED = "posted"
KEY_REUSED = "key_reused"
TOO_FAST = "too_fast"
TRANSFER_FEE = "transfer_fee"
"""The note on the fee line of a transfer."""
LINES_MAX = 500


class Leg(NamedTuple):
    """What a journal does to one account. Legs of one `line` are one movement's two ends."""

    account_id: int
    amount: int
    line: int = 1
    note: str | None = None


@dataclass(frozen=True, slots=True)
class NewJournal:
    """What is to be posted, wholly or not at all, once per (scope, key).

    The scope names whose keys these are: `user:<id>`, or the cause of an internal movement. One
    of the legs must be of an account that the key stands for, so that whoever holds its lock is
    alone with the key.
    """

    scope: str
    key: str
    request_hash: bytes
    kind: str
    legs: tuple[Leg, ...]
    round_id: str | None = None
    sender_id: UUID | None = None
    recipient_id: UUID | None = None
    memo: str | None = None
    txid: str | None = None

    def __post_init__(self) -> None:
        if sum(leg.amount for leg in self.legs) != 0:
            raise ValueError("the legs of a journal must sum to zero")


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


def movement(
    line: int, source: int, target: int, amount: int, note: str | None = None
) -> Iterable[Leg]:
    """The two legs that move an amount; none at all for zero."""
    if amount == 0:
        return ()
    return (Leg(source, -amount, line, note), Leg(target, amount, line, note))
