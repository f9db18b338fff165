"""The stream's recent past, as a port: one writer appends, every gateway replica reads.

Adapters: `MemoryStream`, for writer and API in one process.
"""

import asyncio
import contextlib
import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol
from uuid import UUID

from memepool_gateway.settings import StreamSettings

ENTRY_OVERHEAD_BYTES = 400
_POSITION = re.compile(r"(\d{1,16})-(\d{1,16})")

Audience = frozenset[UUID] | None
"""The users who may see something; None: everybody."""


class Position(NamedTuple):
    """A place in the stream. It orders entries, and tells one life of a stream from another."""

    epoch_ms: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch_ms}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """The position that `str` wrote.

        Raises:
            ValueError: it is none.
        """
        match = _POSITION.fullmatch(text)
        if match is None:
            raise ValueError("not a position of this stream")
        return cls(int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be told: the name of the event, to whom, and a JSON object."""

    name: str
    audience: Audience
    data: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A draft with its place in the stream."""

    position: Position
    name: str
    audience: Audience
    data: bytes


class HistoryGone(Exception):  # noqa: N818 - a fact, not a fault
    """What came after that position is not known any more."""


class StreamStore(Protocol):
    """A bounded log of entries."""

    async def append(self, drafts: Sequence[Draft]) -> None:
        """Add entries at the end."""
        ...

    async def latest(self) -> Position:
        """The position of the last entry, or the start of an empty stream."""
        ...

    async def read(self, after: Position, *, size_max: int, wait_s: float = 0.0) -> Sequence[Entry]:
        """The next entries after a position; waits for one for up to `wait_s`.

        Raises:
            HistoryGone: some of them are not kept any more.
        """
        ...


class MemoryStream:
    """The store within one process. A restart begins a new epoch: clients see a gap."""

    def __init__(self, settings: StreamSettings) -> None:
        self._entries_max = settings.history_entries_max
        self._bytes_max = settings.history_bytes_max
        self._last = Position(time.time_ns() // 1_000_000, 0)
        self._entries: deque[Entry] = deque()
        self._size_bytes = 0
        self._arrived = asyncio.Event()

    async def append(self, drafts: Sequence[Draft]) -> None:
        """Add entries, and forget the oldest beyond the limits."""
        if not drafts:
            return
        for draft in drafts:
            self._last = self._last._replace(sequence=self._last.sequence + 1)
            self._entries.append(Entry(self._last, draft.name, draft.audience, draft.data))
            self._size_bytes += ENTRY_OVERHEAD_BYTES + len(draft.data)
        while len(self._entries) > self._entries_max or self._size_bytes > self._bytes_max:
            self._size_bytes -= ENTRY_OVERHEAD_BYTES + len(self._entries.popleft().data)
        self._arrived.set()
        self._arrived = asyncio.Event()

    async def latest(self) -> Position:
        """The position of the last entry."""
        return self._last

    async def read(self, after: Position, *, size_max: int, wait_s: float = 0.0) -> Sequence[Entry]:
        """The next entries."""
        if after == self._last and wait_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._arrived.wait()
        forgotten = self._last.sequence - len(self._entries)
        if after.epoch_ms != self._last.epoch_ms or not (
            forgotten <= after.sequence <= self._last.sequence
        ):
            raise HistoryGone
        start = after.sequence - forgotten
        return list(islice(self._entries, start, start + size_max))
