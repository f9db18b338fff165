"""Finds 256-bit hashes close to a given one among millions, in memory.

A hash is 16 chunks of 16 bits. Two hashes at most 15 bits apart agree in at least one chunk, so it
is enough to look at those that share a chunk: of a million, 15 for each chunk. The newest hashes
are compared one by one, until there are enough of them to be worth sorting in.
"""

import numpy as np
from numpy.typing import NDArray

HASH_BYTES = 32
CHUNKS = 16
DISTANCE_MAX = CHUNKS - 1
UNSORTED_MAX = 8_192
_VALUES = 1 << 16

Hashes = NDArray[np.uint64]


class NearIndex:
    """Hashes with the number that each was added under, which only rises."""

    def __init__(self) -> None:
        self._hashes: Hashes = np.empty((0, HASH_BYTES // 8), np.uint64)
        self._numbers: NDArray[np.int64] = np.empty(0, np.int64)
        self._size = 0
        self._sorted = 0
        self._order: list[NDArray[np.int32]] = []
        self._starts: list[NDArray[np.int32]] = []

    @property
    def last(self) -> int:
        """The number of the newest hash; 0 if there is none."""
        return int(self._numbers[self._size - 1]) if self._size else 0

    def add(self, numbers: list[int], hashes: list[bytes]) -> None:
        """Take in hashes of 32 bytes each."""
        new = np.frombuffer(b"".join(hashes), np.uint64).reshape(len(numbers), -1)
        end = self._size + len(numbers)
        if end > len(self._numbers):
            room = max(end, 2 * len(self._numbers), 1_024) - len(self._numbers)
            self._hashes = np.concatenate([self._hashes, np.empty((room, new.shape[1]), np.uint64)])
            self._numbers = np.concatenate([self._numbers, np.empty(room, np.int64)])
        self._hashes[self._size : end] = new
        self._numbers[self._size : end] = numbers
        self._size = end

    def sort_in(self) -> None:
        """Sort the newest in, if there are enough. Takes up to 0.5 s for a million: use a thread,
        and neither add nor look up meanwhile."""
        if self._size - self._sorted <= UNSORTED_MAX:
            return
        self._order.clear()
        self._starts.clear()
        chunks = np.ascontiguousarray(self._hashes[: self._size].view(np.uint16).T)
        for chunk in chunks:
            self._order.append(np.argsort(chunk, kind="stable").astype(np.int32))
            counts = np.bincount(chunk, minlength=_VALUES)
            self._starts.append(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
        self._sorted = self._size

    def near(self, forms: list[bytes], distance_max: int) -> list[int]:
        """The numbers of all hashes at most `distance_max` bits from any of `forms`, ascending.

        Raises:
            ValueError: `distance_max` is above `DISTANCE_MAX`.
        """
        if distance_max > DISTANCE_MAX:
            msg = f"the index finds up to {DISTANCE_MAX} bits"
            raise ValueError(msg)
        found: set[int] = set()
        newest = self._hashes[self._sorted : self._size]
        for form in forms:
            wanted = np.frombuffer(form, np.uint64)
            at = self._sharing_a_chunk(wanted)
            near = at[_distances(self._hashes[at], wanted) <= distance_max]
            found.update(self._numbers[near].tolist())
            fresh = np.flatnonzero(_distances(newest, wanted) <= distance_max) + self._sorted
            found.update(self._numbers[fresh].tolist())
        return sorted(found)

    def _sharing_a_chunk(self, wanted: Hashes) -> NDArray[np.int32]:
        if not self._order:
            return np.empty(0, np.int32)
        return np.concatenate(
            [
                order[starts[value] : starts[value + 1]]
                for order, starts, value in zip(
                    self._order, self._starts, wanted.view(np.uint16).tolist(), strict=True
                )
            ]
        )


def _distances(hashes: Hashes, wanted: Hashes) -> NDArray[np.int64]:
    distances: NDArray[np.int64] = np.bitwise_count(hashes ^ wanted).sum(axis=1, dtype=np.int64)
    return distances
