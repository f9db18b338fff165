"""The two roots that a round publishes: over its counted votes, and over where its pot went.

Numbers are 8 bytes big-endian; text is UTF-8 after its length as such a number; ids are text. A
leaf begins with byte 0, an inner node with 1, a root with 2, so that none can pass for another. An
odd node is promoted. The sum tree's nodes bind both child sums, hence its root binds the pot.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from memepool_rounds.domain.rewards import Distribution
from memepool_rounds.domain.tally import CountedVote

CHUNK_VOTES: Final = 1024
"""Votes under one stored inner node: a power of two, so that it is a node of the whole tree."""
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


@dataclass(frozen=True, slots=True)
class Chunk:
    """The inner node over a run of votes that begins with this sequence."""

    first_sequence: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Step(Generic[T]):
    """A sibling on the way from a leaf to the top, and on which side it stands."""

    side: Literal["left", "right"]
    node: T


class VoteTree:
    """The tree over the counted votes of a round, grown by sequence. It holds one node per chunk
    (of which `path` makes proofs later) and the leaves of the last one."""

    def __init__(self, round_id: str) -> None:
        self._start = _LEAF + _text(round_id)
        self._chunks: list[Chunk] = []
        self._leaves: list[bytes] = []
        self._first_sequence = 0
        self._count = 0
        self._total = 0

    def add(self, votes: Iterable[CountedVote]) -> None:
        """The next votes."""
        for vote in votes:
            if not self._leaves:
                self._first_sequence = vote.sequence
            self._leaves.append(vote_leaf(self._start, vote))
            self._count += 1
            self._total += vote.amount
            if len(self._leaves) == CHUNK_VOTES:
                self._chunks.append(Chunk(self._first_sequence, top_of(self._leaves, hash_node)))
                self._leaves = []

    def chunks(self) -> list[Chunk]:
        """All chunks, the last one being perhaps smaller."""
        if not self._leaves:
            return self._chunks
        return [*self._chunks, Chunk(self._first_sequence, top_of(self._leaves, hash_node))]

    def root(self) -> str:
        """Merkle root over the votes; their count and the sum of their amounts are in it."""
        digests = [chunk.digest for chunk in self.chunks()]
        top = top_of(digests, hash_node) if digests else _EMPTY
        return _root(self._count, self._total, top)


def votes_root(round_id: str, votes: Iterable[CountedVote]) -> str:
    """The root over votes in any order."""
    tree = VoteTree(round_id)
    tree.add(sorted(votes, key=lambda vote: vote.sequence))
    return tree.root()


def vote_leaves(round_id: str, votes: Iterable[CountedVote]) -> list[bytes]:
    """The leaves of votes: H(0, round, voteId, contentId, voterId, amount, sequence)."""
    start = _LEAF + _text(round_id)
    return [vote_leaf(start, vote) for vote in votes]


def vote_leaf(start: bytes, vote: CountedVote) -> bytes:
    """A leaf; `start` is what all leaves of the round begin with."""
    return _hash(
        start,
        *(_text(vote.id), _text(vote.content_id), _text(vote.voter_id)),
        *(_number(vote.amount), _number(vote.sequence)),
    )


def rewards_root(round_id: str, distribution: Distribution) -> str:
    """Merkle-sum root over fee, carry-out, then the rewards in order; its sum is the pot."""
    leaves = reward_leaves(round_id, distribution)
    top = top_of(leaves, sum_nodes)
    return _root(len(leaves), top.total, top.digest)


def reward_lines(distribution: Distribution) -> list[tuple[str, str, int]]:
    """Recipient, reason, amount of each leaf; fee and carry-out have no recipient."""
    lines = [("", "fee", distribution.fee), ("", "carryOut", distribution.carry_out)]
    return lines + [
        (str(each.recipient), each.reason, each.amount) for each in distribution.rewards
    ]


def reward_leaves(round_id: str, distribution: Distribution) -> list[SumNode]:
    """The leaves of the sum tree: H(0, round, index, recipient, reason, amount)."""
    return [
        SumNode(
            amount,
            _hash(
                *(_LEAF, _text(round_id), _number(index)),
                *(_text(recipient), _text(reason), _number(amount)),
            ),
        )
        for index, (recipient, reason, amount) in enumerate(reward_lines(distribution))
    ]


def path(level: Sequence[T], index: int, combine: Callable[[T, T], T]) -> list[Step[T]]:
    """From a node of a level up to the top; a promoted node has no sibling and takes no step."""
    steps: list[Step[T]] = []
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            steps.append(Step("right" if sibling > index else "left", level[sibling]))
        level, index = _next_level(level, combine), index // 2
    return steps


def top_of(level: Sequence[T], combine: Callable[[T, T], T]) -> T:
    """The top over a level that is not empty."""
    while len(level) > 1:
        level = _next_level(level, combine)
    return level[0]


def hash_node(left: bytes, right: bytes) -> bytes:
    """A node of the tree over votes: H(1, left, right)."""
    return _hash(_NODE, left, right)


def sum_nodes(left: SumNode, right: SumNode) -> SumNode:
    """A node of the sum tree: H(1, left sum, left, right sum, right)."""
    digest = _hash(_NODE, _number(left.total), left.digest, _number(right.total), right.digest)
    return SumNode(left.total + right.total, digest)


def _next_level(level: Sequence[T], combine: Callable[[T, T], T]) -> list[T]:
    paired = [combine(left, right) for left, right in zip(level[::2], level[1::2], strict=False)]
    return [*paired, *level[len(level) - len(level) % 2 :]]


def _root(count: int, total: int, top: bytes) -> str:
    return _hash(_ROOT, _number(count), _number(total), top).hex()


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _number(len(encoded)) + encoded
