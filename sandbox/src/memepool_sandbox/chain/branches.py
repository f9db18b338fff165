"""The tree of blocks, and which of its branches is the chain: the one with the most work."""

from dataclasses import dataclass
from typing import NamedTuple

from memepool_chain.header import work_of
from memepool_sandbox.chain.block import Block

MEDIAN_TIME_BLOCKS = 11


@dataclass(frozen=True, slots=True)
class Entry:
    """A block in its place; `chainwork` is the work of the branch up to and with it."""

    block: Block
    height: int
    chainwork: int


class Switch(NamedTuple):
    """How the chain changed: blocks that left it, highest first, and that joined, lowest first."""

    disconnected: list[Entry]
    connected: list[Entry]


class UnknownBlockError(Exception):
    """No block with this hash, or none at this height."""


class Branches:
    """Every block ever accepted, from genesis on."""

    def __init__(self, genesis: Block) -> None:
        entry = Entry(genesis, 0, work_of(genesis.header.bits))
        self._entries = {genesis.hash: entry}
        self._active = [entry]
        self._leaves = {genesis.hash}

    @property
    def tip(self) -> Entry:
        """The chain's last block."""
        return self._active[-1]

    def at(self, height: int) -> Entry:
        """The chain's block at this height. Raises UnknownBlockError."""
        if not 0 <= height < len(self._active):
            raise UnknownBlockError(height)
        return self._active[height]

    def entry(self, block_hash: str) -> Entry:
        """The block with this hash, whatever its branch. Raises UnknownBlockError."""
        try:
            return self._entries[block_hash]
        except KeyError:
            raise UnknownBlockError(block_hash) from None

    def is_active(self, entry: Entry) -> bool:
        """Whether the block is part of the chain."""
        return entry.height < len(self._active) and self._active[entry.height] is entry

    def leaves(self) -> list[Entry]:
        """The last block of every branch, highest first, the chain's own before its equals."""
        entries = (self._entries[block_hash] for block_hash in self._leaves)
        return sorted(entries, key=lambda e: (e.height, self.is_active(e)), reverse=True)

    def fork_height(self, entry: Entry) -> int:
        """The height at which the block's branch leaves the chain."""
        while not self.is_active(entry):
            entry = self.entry(entry.block.header.prev_hash)
        return entry.height

    def last_times_s(self, entry: Entry) -> list[int]:
        """The times of the block and up to ten before it, oldest first."""
        times = [entry.block.header.time]
        while len(times) < MEDIAN_TIME_BLOCKS and entry.height > 0:
            entry = self.entry(entry.block.header.prev_hash)
            times.append(entry.block.header.time)
        return times[::-1]

    def median_time_s(self, entry: Entry) -> int:
        """The median that the next block's time must be above."""
        return median(self.last_times_s(entry))

    def add(self, block: Block) -> Switch:
        """Put a block on its parent; first seen wins between branches of equal work.

        Raises UnknownBlockError when the parent is unknown.
        """
        parent = self.entry(block.header.prev_hash)
        chainwork = parent.chainwork + work_of(block.header.bits)
        entry = Entry(block, parent.height + 1, chainwork)
        self._entries[block.hash] = entry
        self._leaves.discard(parent.block.hash)
        self._leaves.add(block.hash)
        return self._switch_to(entry) if chainwork > self.tip.chainwork else Switch([], [])

    def _switch_to(self, entry: Entry) -> Switch:
        joined: list[Entry] = []
        while not self.is_active(entry):
            joined.append(entry)
            entry = self.entry(entry.block.header.prev_hash)
        joined.reverse()
        left = self._active[entry.height + 1 :]
        left.reverse()
        self._active[entry.height + 1 :] = joined
        return Switch(left, joined)


def median(times_s: list[int]) -> int:
    """The middle one of the times, the upper of two, as the consensus rule has it."""
    return sorted(times_s)[len(times_s) // 2]
