"""The stream's recent past, as a port: one writer appends, every gateway replica reads.

Adapters: `MemoryStream`, for writer and API in one process, and `RedisStream` between processes.
"""

import asyncio
import re
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol
from uuid import UUID

from memepool_common.pausing import pause
from memepool_gateway.settings import StreamSettings

ENTRY_OVERHEAD_BYTES = 400
REMEMBERED_MAX = 20_000
"""Events that a store knows again."""

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


class StreamUnavailableError(ConnectionError):
    """The store is away; the same call may succeed later."""


class NotTheWriterError(StreamUnavailableError):
    """Another process writes the stream now."""


class StreamStore(Protocol):
    """A bounded log of entries. Methods raise `StreamUnavailableError` while it is away."""

    async def hold(self) -> bool:
        """Whether the caller is the one writer, which it then stays for a few seconds."""
        ...

    async def append(self, drafts: Sequence[Draft], event_id: UUID | None = None) -> None:
        """Add entries at the end: all of them, or none when this event's were added before.

        Raises:
            NotTheWriterError: another one writes.
        """
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


def require_kept(after: Position, first: Position, last: Position) -> None:
    """Check that all that came after a position is still there.

    Raises:
        HistoryGone: it is not, or the position is of another life of the stream.
    """
    if after.epoch_ms != last.epoch_ms or not first.sequence - 1 <= after.sequence <= last.sequence:
        raise HistoryGone


class MemoryStream:
    """The store within one process. A restart begins a new epoch: clients see a gap."""

    def __init__(self, settings: StreamSettings) -> None:
        self._entries_max = settings.history_entries_max
        self._bytes_max = settings.history_bytes_max
        self._last = Position(time.time_ns() // 1_000_000, 0)
        self._entries: deque[Entry] = deque()
        self._size_bytes = 0
        self._seen: OrderedDict[UUID, None] = OrderedDict()
        self._arrived = asyncio.Event()

    async def hold(self) -> bool:
        """There is no other process."""
        return True

    async def append(self, drafts: Sequence[Draft], event_id: UUID | None = None) -> None:
        """Add entries, and forget the oldest beyond the limits."""
        if not drafts or event_id in self._seen:
            return
        if event_id is not None:
            self._seen[event_id] = None
            if len(self._seen) > REMEMBERED_MAX:
                self._seen.popitem(last=False)
        for draft in drafts:
            self._last = self._last._replace(sequence=self._last.sequence + 1)
            self._entries.append(Entry(self._last, draft.name, draft.audience, draft.data))
            self._size_bytes += ENTRY_OVERHEAD_BYTES + len(draft.data)
        while len(self._entries) > 1 and (
            len(self._entries) > self._entries_max or self._size_bytes > self._bytes_max
        ):
            self._size_bytes -= ENTRY_OVERHEAD_BYTES + len(self._entries.popleft().data)
        self._arrived.set()
        self._arrived = asyncio.Event()

    async def latest(self) -> Position:
        """The position of the last entry."""
        return self._last

    async def read(self, after: Position, *, size_max: int, wait_s: float = 0.0) -> Sequence[Entry]:
        """The next entries."""
        if after == self._last and wait_s > 0:
            await pause(self._arrived, wait_s)
        forgotten = self._last.sequence - len(self._entries)
        require_kept(after, self._last._replace(sequence=forgotten + 1), self._last)
        start = after.sequence - forgotten
        return list(islice(self._entries, start, start + size_max))
