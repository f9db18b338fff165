"""The two roots that a round publishes: over its counted votes, and over where its pot went.

Numbers are 8 bytes big-endian; text is UTF-8 after its length as such a number; ids are text. A
leaf begins with byte 0, an inner node with 1, a root with 2, so that none can pass for another. An
odd node is promoted. The sum tree's nodes bind both child sums, hence its root binds the pot.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from memepool_rounds.domain.rewards import Distribution
from memepool_rounds.domain.tally import CountedVote

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"
_ROOT: Final = b"\x02"
_EMPTY: Final = bytes(32)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Roots:
    """Both roots, 64 hexadecimal digits each."""

    votes: str
    rewards: str


@dataclass(frozen=True, slots=True)
class SumNode:
    """A node of the sum tree."""

    total: int
    digest: bytes


def roots_of(round_id: str, votes: Iterable[CountedVote], distribution: Distribution) -> Roots:
    """The roots of a tallied round."""
    return Roots(votes_root(round_id, votes), rewards_root(round_id, distribution))


def votes_root(round_id: str, votes: Iterable[CountedVote]) -> str:
    """Merkle root over votes by sequence; count and sum of amounts are in the root."""
    ordered = sorted(votes, key=lambda vote: vote.sequence)
    level = [vote_leaf(round_id, vote) for vote in ordered]
    while len(level) > 1:
        paired = [_hash(_NODE, left, right) for left, right in _pairs(level)]
        level = paired + level[len(level) - len(level) % 2 :]
    total = sum(vote.amount for vote in ordered)
    return _root(len(ordered), total, level[0] if level else _EMPTY)


def vote_leaf(round_id: str, vote: CountedVote) -> bytes:
    """H(0, round, voteId, contentId, voterId, amount, sequence)."""
    ids = (round_id, str(vote.id), str(vote.content_id), str(vote.voter_id))
    return _hash(_LEAF, *map(_text, ids), _number(vote.amount), _number(vote.sequence))


def rewards_root(round_id: str, distribution: Distribution) -> str:
    """Merkle-sum root over fee, carry-out, then the rewards in order; its sum is the pot."""
    lines = [("", "fee", distribution.fee), ("", "carryOut", distribution.carry_out)]
    lines += [(str(line.recipient), line.reason, line.amount) for line in distribution.rewards]
    level = [reward_leaf(round_id, index, *line) for index, line in enumerate(lines)]
    while len(level) > 1:
        paired = [_sum_node(left, right) for left, right in _pairs(level)]
        level = paired + level[len(level) - len(level) % 2 :]
    return _root(len(lines), level[0].total, level[0].digest)


def reward_leaf(round_id: str, index: int, recipient: str, reason: str, amount: int) -> SumNode:
    """H(0, round, index, recipient, reason, amount); fee and carry-out have no recipient."""
    digest = _hash(
        _LEAF, _text(round_id), _number(index), _text(recipient), _text(reason), _number(amount)
    )
    return SumNode(amount, digest)


def _sum_node(left: SumNode, right: SumNode) -> SumNode:
    digest = _hash(_NODE, _number(left.total), left.digest, _number(right.total), right.digest)
    return SumNode(left.total + right.total, digest)


def _pairs(level: Sequence[T]) -> Iterable[tuple[T, T]]:
    return zip(level[::2], level[1::2], strict=False)


def _root(count: int, total: int, top: bytes) -> str:
    return _hash(_ROOT, _number(count), _number(total), top).hex()


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _number(len(encoded)) + encoded
