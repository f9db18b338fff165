"""The headers a service has checked itself, and which branch of them is the chain.

Every header is kept: the best branch as `active`, the others as `stale`, and as `orphan` those
whose parent has not arrived. The tip moves only to more work, so of two branches with equal work
the first seen stays. Chainwork counts from the checkpoint, below which no branch can start.

The tip is one row. A writer locks it before it reads anything else, so writers follow each other,
and every move is conditional on its version and raises it: whoever acts on the chain can tell an
old view from a new one. A `session` is an AsyncConnection inside a transaction; nothing commits.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from memepool_chain import headertable
from memepool_chain.difficulty import (
    RETARGET_ANCESTORS,
    ancestors_needed,
    check_header,
    check_proof_of_work,
)
from memepool_chain.header import Header, HeaderError, parse_header, work_of
from memepool_chain.headertable import (
    GRANTS,
    NotInitializedError,
    StoredHeader,
    Tip,
    TipMovedError,
    create_table,
    missing_parents,
)
from memepool_chain.network import Network

__all__ = [
    "GRANTS",
    "Change",
    "Checkpoint",
    "NotInitializedError",
    "StoredHeader",
    "Tip",
    "TipMovedError",
    "add_headers",
    "create_table",
    "header",
    "header_at",
    "initialize",
    "known",
    "lowest_height",
    "missing_parents",
    "tip",
]

HEADERS_PER_CALL_MAX: Final = 2_000
ORPHANS_MAX: Final = 1_000  # beyond it the oldest go: they cost whoever sends them little
FUTURE_MAX: Final = timedelta(hours=2)  # the nodes' own tolerance for a block's time


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Trusted headers to start from, oldest first; `height` is the last one's.

    Networks that retarget need 147 of them. ValueError unless each follows the one before.
    """

    height: int
    headers: tuple[Header, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.headers) <= self.height + 1:
            raise ValueError("a checkpoint has a header, and none below height 0")
        for parent, child in zip(self.headers, self.headers[1:], strict=False):
            if child.prev_hash != parent.hash:
                raise ValueError("a checkpoint's headers must follow each other")

    @classmethod
    def genesis(cls, network: Network) -> "Checkpoint":
        """Start at the network's first block; ValueError where the network retargets."""
        if network.retargets:
            raise ValueError(f"{network.name} needs a checkpoint of {RETARGET_ANCESTORS} headers")
        return cls(0, (parse_header(network.genesis_header),))


@dataclass(frozen=True, slots=True)
class Change:
    """What a call changed in the active branch.

    `disconnected` runs from the old tip down, `connected` from the fork up.
    """

    connected: tuple[StoredHeader, ...]
    disconnected: tuple[StoredHeader, ...]
    tip: Tip


async def initialize(session: AsyncConnection, checkpoint: Checkpoint) -> Tip:
    """Store the checkpoint unless the store has a tip already; return the tip.

    Raises ValueError when the stored chain has another block at the checkpoint's height: the
    database belongs to another chain.
    """
    await headertable.lock_against_initializers(session)
    try:
        present = await tip(session)
    except NotInitializedError:
        rows = _checkpoint_rows(checkpoint)
        await headertable.insert(session, rows)
        await headertable.insert_tip(session, rows[-1])
        return await tip(session)
    stored = await header_at(session, checkpoint.height)
    if stored is not None and stored.hash != checkpoint.headers[-1].hash:
        raise ValueError(
            f"the database follows another chain: {stored.hash} at height {checkpoint.height}"
        )
    return present


async def tip(session: AsyncConnection) -> Tip:
    """Return the active branch's tip; NotInitializedError."""
    return await headertable.read_tip(session)


async def header_at(session: AsyncConnection, height: int) -> StoredHeader | None:
    """Return the header of the active branch at this height."""
    return await headertable.active_at(session, height)


async def lowest_height(session: AsyncConnection) -> int:
    """Return the height of the checkpoint's first header; NotInitializedError."""
    return await headertable.lowest_active(session)


async def header(session: AsyncConnection, block_hash: str) -> StoredHeader | None:
    """Return the header with this hash, on whatever branch, orphans included."""
    return await headertable.by_hash(session, block_hash)


async def known(session: AsyncConnection, block_hash: str) -> bool:
    """Say whether this header is stored and connected to the checkpoint (an orphan is not)."""
    stored = await headertable.by_hash(session, block_hash)
    return stored is not None and stored.state != "orphan"


async def add_headers(
    session: AsyncConnection, network: Network, raw_headers: Sequence[bytes], *, now: datetime
) -> Change:
    """Check and store headers in any order, and follow the branch with the most work.

    Known ones are passed over. Raises HeaderError (see `check_header`; also `time_too_new` and
    `too_many_headers`) at the first one that is wrong, and then stores none of them; an orphan
    that turns out wrong when its parent arrives is dropped. Raises NotInitializedError.
    """
    if len(raw_headers) > HEADERS_PER_CALL_MAX:
        raise HeaderError("too_many_headers", f"at most {HEADERS_PER_CALL_MAX} headers at a time")
    headers = [parse_header(raw) for raw in raw_headers]
    for each in headers:
        check_proof_of_work(network, each)
    async with session.begin_nested():
        old = await headertable.read_tip(session, lock=True)
        writer = _Writer(session, network, now, old)
        for each in headers:
            await writer.add(each)
        await headertable.evict_orphans(session, ORPHANS_MAX)
        if writer.best is None:
            return Change((), (), old)
        return await _switch(session, old, writer.best)


async def _switch(session: AsyncConnection, old: Tip, best: StoredHeader) -> Change:
    """Make the branch that ends at `best` the active one."""
    branch = await headertable.stale_branch(session, best.hash)
    disconnected = await headertable.deactivate_above(session, _place(branch[0])[0] - 1)
    connected = await headertable.activate(session, [each.hash for each in branch])
    new = await headertable.move_tip(session, old, best)
    return Change(tuple(connected), tuple(disconnected), new)


class _Writer:
    """Stores the headers of one call and remembers the best one that beats the tip."""

    def __init__(self, session: AsyncConnection, network: Network, now: datetime, old: Tip) -> None:
        self._session = session
        self._network = network
        self._now = now
        self._work_to_beat = old.chainwork
        self._parent: StoredHeader | None = None  # the last one stored: usually the next's parent
        self._ancestors: deque[Header] = deque(maxlen=ancestors_needed(network))
        self.best: StoredHeader | None = None

    async def add(self, new: Header) -> None:
        """Store one header, and whatever waited for it; HeaderError if it is wrong."""
        if await headertable.by_hash(self._session, new.hash) is not None:
            return
        parent = await self._find_parent(new)
        if parent is None:
            orphan = StoredHeader(new, None, None, "orphan", self._now)
            await headertable.insert(self._session, [orphan])
            return
        await self._store(new, parent, self._now)
        await self._adopt(new.hash)

    async def _adopt(self, parent_hash: str) -> None:
        waiting = deque([parent_hash])
        while waiting:
            for orphan in await headertable.take_orphans_of(self._session, waiting.popleft()):
                parent = await self._find_parent(orphan.header)
                if parent is None:
                    raise AssertionError("the parent has just been stored")
                try:
                    await self._store(orphan.header, parent, orphan.received_at)
                except HeaderError:
                    continue  # whoever sent it is not who sends now
                waiting.append(orphan.hash)

    async def _find_parent(self, new: Header) -> StoredHeader | None:
        """Return the connected parent, and have its line of ancestors at hand."""
        if self._parent is not None and self._parent.hash == new.prev_hash:
            return self._parent
        parent = await headertable.by_hash(self._session, new.prev_hash)
        if parent is None or parent.state == "orphan":
            return None
        self._parent = parent
        self._ancestors.clear()
        self._ancestors.extend(
            await headertable.line(self._session, parent.hash, ancestors_needed(self._network))
        )
        return parent

    async def _store(self, new: Header, parent: StoredHeader, received_at: datetime) -> None:
        if new.time > (self._now + FUTURE_MAX).timestamp():
            raise HeaderError("time_too_new", "the time is more than two hours ahead")
        check_header(self._network, new, tuple(self._ancestors))
        height, chainwork = _place(parent)
        stored = StoredHeader(new, height + 1, chainwork + work_of(new.bits), "stale", received_at)
        await headertable.insert(self._session, [stored])
        self._parent = stored
        self._ancestors.append(new)
        if _place(stored)[1] > self._work_to_beat:
            self._work_to_beat = _place(stored)[1]
            self.best = stored


def _place(stored: StoredHeader) -> tuple[int, int]:
    """Return height and chainwork of a connected header."""
    if stored.height is None or stored.chainwork is None:
        raise AssertionError("an orphan has no place in the chain")
    return stored.height, stored.chainwork


def _checkpoint_rows(checkpoint: Checkpoint) -> list[StoredHeader]:
    rows = []
    chainwork = 0
    base = checkpoint.height + 1 - len(checkpoint.headers)
    for height, each in enumerate(checkpoint.headers, start=base):
        chainwork += work_of(each.bits)
        seen_at = datetime.fromtimestamp(each.time, UTC)
        rows.append(StoredHeader(each, height, chainwork, "active", seen_at))
    return rows
