"""Following the chain: hear of the source's tip, fetch what leads to it, check all of it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

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
FORK_DEPTH_MAX: Final = 200  # a deeper fork is looked for by halving, not header by header
BATCH_MAX: Final = 500
DEEP_REORG: Final = 6
LAG = Gauge("memepool_chain_lag_blocks", "Blocks that the source has and we have not")
TIP_AGE = Gauge("memepool_chain_tip_age_seconds", "Since the tip's block was received")
FAILING = Gauge("memepool_chain_source_failing_seconds", "Since the source last was of use")
REFUSED = Counter("memepool_chain_refused_total", "Answers of the source that broke a rule")
REORGS = Counter("memepool_chain_reorgs_total", "Reorganisations", ["deep"])
log = structlog.get_logger(__name__)


def stand_by() -> None:
    """Another process follows: what this one measured last is no longer so."""
    for gauge in (LAG, TIP_AGE, FAILING):
        gauge.set(0)


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
                await self._store(missing[start : start + BATCH_MAX], info)
        except (WhatsOnChainError, HeaderError) as error:
            await self._note_failure(error)
            return
        async with self._database.transaction() as session:
            await self._turn(session, info)

    async def _note_failure(self, error: Exception) -> None:
        now = self._clock.now()
        log.warning("chain_source_failed", error=repr(error))
        if isinstance(error, HeaderError | MalformedAnswer):
            REFUSED.inc()
        async with self._database.transaction() as session:
            failing_since = await chain_view.note_failure(session, repr(error)[:500], now)
        FAILING.set((now - failing_since).total_seconds())

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
        top, wanted = info.height, info.best_block_hash
        if top > tip.height + WALK_MAX:
            top = tip.height + WALK_MAX
            wanted = (await self._source.header(top)).header.hash
        found = await self._walk_back(wanted, max(0, top - tip.height) + FORK_DEPTH_MAX)
        if found is None:  # the source left our chain far below: the next part of its branch
            top = min(info.height, await self._known_height(info.height) + WALK_MAX)
            wanted = (await self._source.header(top)).header.hash
            found = await self._walk_back(wanted, WALK_MAX)
        if found is None:
            raise MalformedAnswer("the source's chain does not lead to any block we know")
        return found

    async def _walk_back(self, wanted: str, headers_max: int) -> list[Header] | None:
        """The headers from what we know up to one, oldest first; None if there are more."""
        found: list[Header] = []
        async with self._database.read() as session:
            known = await headerstore.known(session, wanted)
        while not known:
            if len(found) >= headers_max:
                return None
            run = await self._run(wanted, first=not found)
            async with self._database.read() as session:
                for header in run:
                    found.append(header)
                    wanted = header.prev_hash
                    known = await headerstore.known(session, wanted)
                    if known:
                        break
        return found[::-1]

    async def _known_height(self, top: int) -> int:
        """Up to which height below `top` we know the source's branch, by halving. What it says is
        a hint: what is stored is what leads to a block we know."""
        async with self._database.read() as session:
            low = await headerstore.lowest_height(session)
        if not await self._knows(low):
            raise MalformedAnswer("the source's chain is another one than ours")
        while low + 1 < top:
            middle = (low + top) // 2
            if await self._knows(middle):
                low = middle
            else:
                top = middle
        return low

    async def _knows(self, height: int) -> bool:
        block_hash = (await self._source.header(height)).header.hash
        async with self._database.read() as session:
            return await headerstore.known(session, block_hash)

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

    async def _store(self, headers: Sequence[Header], info: ChainInfo) -> None:
        """One batch; who looks at the chain meanwhile sees the tip come closer to the source's."""
        now = self._clock.now()
        raw = [header.serialize() for header in headers]
        async with self._database.transaction() as session:
            change = await headerstore.add_headers(session, self._network, raw, now=now)
            await outbox.append(session, _block_events(change))
            fork_height = None
            if change.disconnected:
                fork_height = await _note_reorganisation(session, change, now)
            if change.connected:
                await refresh_finality(
                    session,
                    change.tip,
                    final_depth=self._rules.final_depth,
                    fork_height=fork_height,
                )
            await chain_view.note_success(session, info.height, info.best_block_hash, now)
        LAG.set(max(0, info.height - change.tip.height))
        if len(headers) > 1:
            log.info("chain_catching_up", height=change.tip.height, source_height=info.height)

    async def _turn(self, session: Session, info: ChainInfo) -> None:
        now = self._clock.now()
        await chain_view.note_success(session, info.height, info.best_block_hash, now)
        tip = await headerstore.tip(session)
        newest = await headerstore.header(session, tip.hash)
        LAG.set(max(0, info.height - tip.height))
        FAILING.set(0)
        TIP_AGE.set((now - newest.received_at).total_seconds() if newest else 0)
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


async def _note_reorganisation(session: Session, change: Change, now: datetime) -> int:
    """Returns the height at which the active branch was left."""
    fork_height = (change.disconnected[-1].height or 0) - 1
    depth = len(change.disconnected)
    say = log.error if depth >= DEEP_REORG else log.warning
    say("chain_reorganised", depth=depth, tip=change.tip.hash)
    REORGS.labels("yes" if depth >= DEEP_REORG else "no").inc()
    await chain_view.note_reorganisation(
        session,
        Reorganisation(
            at=now,
            fork_height=fork_height,
            depth=depth,
            old_tip=change.disconnected[0].hash,
            new_tip=change.tip.hash,
        ),
    )
    return fork_height
