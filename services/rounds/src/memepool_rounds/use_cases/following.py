"""Following the chain: hear of the source's tip, fetch what leads to it, check all of it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from memepool_chain import headerstore
from memepool_chain.header import Header, HeaderError
from memepool_chain.headerstore import Change, Checkpoint, NotInitializedError, StoredHeader, Tip
from memepool_chain.network import Network
from memepool_chain.whatsonchain import ChainInfo, MalformedAnswer, WhatsOnChainError
from memepool_common.clock import Clock
from memepool_common.db import Database, Session
from memepool_common.events import NewEvent, outbox
from memepool_rounds import events
from memepool_rounds.adapters.chain_source import ChainSource
from memepool_rounds.store import chain_view
from memepool_rounds.store.chain_view import Reorganisation
from memepool_rounds.use_cases.finality import refresh_finality
from memepool_rounds.use_cases.turning import turn_round

RUN_MAX: Final = 20  # what the source gives in one answer
WALK_MAX: Final = 2_000  # headers fetched before they are stored
REORG_DEPTH_MAX: Final = 2_000
BATCH_MAX: Final = 500
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RoundRules:
    """What decides how blocks turn rounds."""

    minimum_age: timedelta
    submissions_max: int
    final_depth: int


class Follower:
    """One poll after the other. Only one process may poll at a time; a second one that believes
    it is alone does no harm, because every change of the tip is conditional."""

    def __init__(
        self,
        database: Database,
        source: ChainSource,
        network: Network,
        checkpoint: Callable[[], Awaitable[Checkpoint]],
        rules: RoundRules,
        clock: Clock,
    ) -> None:
        self._database = database
        self._source = source
        self._network = network
        self._checkpoint = checkpoint
        self._rules = rules
        self._clock = clock

    async def poll(self) -> None:
        """Catch up with the source, then let the tip turn the round. A source that does not
        answer, or lies, is noted and asked again next time."""
        try:
            tip = await self._tip()
            info = await self._source.chain_info()
            missing = await self._missing(info, tip)
            for start in range(0, len(missing), BATCH_MAX):
                await self._store(missing[start : start + BATCH_MAX])
        except (WhatsOnChainError, HeaderError) as error:
            log.warning("chain_source_failed", error=repr(error))
            async with self._database.transaction() as session:
                await chain_view.note_failure(session, repr(error)[:500], self._clock.now())
            return
        async with self._database.transaction() as session:
            await self._turn(session, info)

    async def _tip(self) -> Tip:
        try:
            async with self._database.read() as session:
                return await headerstore.tip(session)
        except NotInitializedError:
            checkpoint = await self._checkpoint()
            async with self._database.transaction() as session:
                return await headerstore.initialize(session, checkpoint)

    async def _missing(self, info: ChainInfo, tip: Tip) -> list[Header]:
        """The headers from what we know up to the source's tip (or part of the way, when that is
        far), oldest first."""
        wanted = info.best_block_hash
        if info.height > tip.height + WALK_MAX:
            wanted = (await self._source.header(tip.height + WALK_MAX)).header.hash
        found: list[Header] = []
        async with self._database.read() as session:
            known = await headerstore.known(session, wanted)
        while not known:
            if len(found) > WALK_MAX + REORG_DEPTH_MAX:
                raise MalformedAnswer("the source's chain does not lead to any block we know")
            run = await self._run(wanted, first=not found)
            async with self._database.read() as session:
                for header in run:
                    found.append(header)
                    wanted = header.prev_hash
                    known = await headerstore.known(session, wanted)
                    if known:
                        break
        return found[::-1]

    async def _run(self, wanted: str, *, first: bool) -> list[Header]:
        """A header and those before it. Mostly one is missing, so the first is asked for alone."""
        if first:
            return [(await self._source.header(wanted)).header]
        answer = await self._source.headers_latest(limit=RUN_MAX, start_hash=wanted)
        run = [each.header for each in answer]
        for header in run:
            if header.hash != wanted:
                raise MalformedAnswer("the source's headers do not follow each other")
            wanted = header.prev_hash
        if not run:
            raise MalformedAnswer("the source gives no headers for a block it named")
        return run

    async def _store(self, headers: Sequence[Header]) -> None:
        now = self._clock.now()
        raw = [header.serialize() for header in headers]
        async with self._database.transaction() as session:
            change = await headerstore.add_headers(session, self._network, raw, now=now)
            await outbox.append(session, _block_events(change))
            if change.disconnected:
                await _note_reorganisation(session, change, now)
            if change.connected:
                await refresh_finality(session, change.tip, final_depth=self._rules.final_depth)

    async def _turn(self, session: Session, info: ChainInfo) -> None:
        now = self._clock.now()
        await chain_view.note_success(session, info.height, info.best_block_hash, now)
        tip = await headerstore.tip(session)
        # Of two branches with equal work the source may see the other one first: having its best
        # block is being caught up, even where our tip stays.
        caught_up = await headerstore.known(session, info.best_block_hash)
        await turn_round(
            session,
            tip,
            caught_up=caught_up,
            now=now,
            minimum_age=self._rules.minimum_age,
            submissions_max=self._rules.submissions_max,
        )
        await refresh_finality(session, tip, final_depth=self._rules.final_depth)


def _block_events(change: Change) -> list[NewEvent]:
    kinds = [(events.BLOCK_DISCONNECTED, change.disconnected)]
    kinds += [(events.BLOCK_CONNECTED, change.connected)]
    return [
        events.about_block(kind, _block(stored, change.tip.version))
        for kind, headers in kinds
        for stored in headers
    ]


def _block(stored: StoredHeader, tip_version: int) -> events.BlockData:
    if stored.height is None:
        raise AssertionError("a block of the active branch has a height")
    return events.BlockData(
        height=stored.height,
        hash=stored.hash,
        header=stored.header.serialize().hex(),
        tip_version=tip_version,
    )


async def _note_reorganisation(session: Session, change: Change, now: datetime) -> None:
    lowest = change.disconnected[-1]
    log.warning("chain_reorganised", depth=len(change.disconnected), tip=change.tip.hash)
    await chain_view.note_reorganisation(
        session,
        Reorganisation(
            at=now,
            fork_height=(lowest.height or 0) - 1,
            depth=len(change.disconnected),
            old_tip=change.disconnected[0].hash,
            new_tip=change.tip.hash,
        ),
    )
