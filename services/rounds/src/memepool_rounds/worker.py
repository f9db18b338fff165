"""Wiring of the worker process: relay, consumers, the follower of the chain, the tally."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Final

from sqlalchemy import text

from memepool_chain.checkpoint import fetch_checkpoint
from memepool_chain.headerstore import Checkpoint
from memepool_chain.network import network_named
from memepool_chain.whatsonchain import WhatsOnChain
from memepool_common.clock import SystemClock
from memepool_common.db import Database
from memepool_common.events import Bus, run_consumer, run_relay
from memepool_common.pausing import pause
from memepool_common.settings import BadSettingsError
from memepool_common.web.app import Probes
from memepool_common.web.idempotency import forget_old
from memepool_common.web.lifespan import open_database
from memepool_common.worker import run_all, run_every
from memepool_rounds.adapters.watched_bus import WatchedBus
from memepool_rounds.consumers import STAKES_QUEUE, SUBSCRIPTIONS
from memepool_rounds.settings import ChainSettings, Settings
from memepool_rounds.use_cases.closing import look_at_closing_rounds
from memepool_rounds.use_cases.following import Follower, RoundRules, stand_by

SOURCE: Final = "/rounds"
CLEANING_INTERVAL_S: Final = 3600
STANDBY_INTERVAL_S_MAX: Final = 2.0
"""How often a follower that stands by tries to take over."""
_ADVISORY_LOCK: Final = 7_223_001  # any constant: advisory locks are per database


def topology() -> dict[str, list[str]]:
    """Every durable queue of this service with its bindings."""
    return {each.queue: each.routing_keys for each in SUBSCRIPTIONS}


async def run(settings: Settings, bus: Bus, probes: Probes, stopping: asyncio.Event) -> None:
    """Run until `stopping` is set and everything in flight is finished.

    Raises:
        BadSettingsError: the network needs a checkpoint and none is set.
    """
    chain = settings.chain
    network = network_named(chain.network)
    if network.retargets and (chain.checkpoint_height is None or chain.checkpoint_hash is None):
        raise BadSettingsError(
            f"MEMEPOOL_ROUNDS_CHAIN__CHECKPOINT_HEIGHT and _HASH: {network.name} needs both"
        )
    watched = WatchedBus(bus)
    clock = SystemClock()
    async with (
        open_database(settings.database, probes, "rounds-worker") as database,
        _source(chain) as source,
    ):

        async def checkpoint() -> Checkpoint:
            if chain.checkpoint_height is None or chain.checkpoint_hash is None:
                return Checkpoint.genesis(network)
            return await fetch_checkpoint(
                source, network, height=chain.checkpoint_height, block_hash=chain.checkpoint_hash
            )

        rules = RoundRules(
            minimum_age=timedelta(seconds=settings.rounds.minimum_age_s),
            submissions_max=settings.rounds.submissions_max,
            final_depth=settings.rounds.final_depth,
        )
        follower = Follower(database, source, network, checkpoint, rules, clock)

        async def tally() -> None:
            await look_at_closing_rounds(
                database,
                network.name,
                now=clock.now(),
                timeout_after=timedelta(seconds=settings.rounds.closing_timeout_s),
                consuming=watched.consuming(STAKES_QUEUE),
            )

        async def clean() -> None:
            async with database.transaction() as session:
                await forget_old(session)

        await run_all(
            run_relay(database, bus, SOURCE, stopping),
            *(run_consumer(database, watched, each, stopping) for each in SUBSCRIPTIONS),
            follow(database, follower.poll, chain.poll_interval_s, stopping),
            run_every(settings.rounds.tick_interval_s, tally, stopping, name="rounds-tally"),
            run_every(CLEANING_INTERVAL_S, clean, stopping, name="rounds-cleaning"),
        )


async def follow(
    database: Database,
    poll: Callable[[], Awaitable[None]],
    interval_s: float,
    stopping: asyncio.Event,
) -> None:
    """Poll while this process holds the lock that only one follower can hold; stand by else."""

    async def lead() -> None:
        async with database.engine.connect() as guard:
            await guard.execution_options(isolation_level="AUTOCOMMIT")
            taken = text(f"select pg_try_advisory_lock({_ADVISORY_LOCK})")
            if not (await guard.execute(taken)).scalar_one():
                stand_by()
                return
            try:
                while not stopping.is_set():
                    await guard.execute(text("select 1"))  # the lock lives with its connection
                    await _unless(stopping, poll)
                    await pause(stopping, interval_s)
            finally:
                with contextlib.suppress(Exception):
                    await guard.execute(text(f"select pg_advisory_unlock({_ADVISORY_LOCK})"))

    standby_s = min(interval_s, STANDBY_INTERVAL_S_MAX)
    await run_every(standby_s, lead, stopping, name="rounds-follower")


async def _unless(stopping: asyncio.Event, poll: Callable[[], Awaitable[None]]) -> None:
    """Poll, and give up as soon as we must stop: a silent source would hold up the shutdown for
    minutes, and what a poll has not committed the next one does again."""

    async def polled() -> None:
        await poll()

    polling = asyncio.create_task(polled(), name="rounds-poll")
    told = asyncio.create_task(stopping.wait(), name="rounds-poll-stop")
    try:
        await asyncio.wait({polling, told}, return_when=asyncio.FIRST_COMPLETED)
        if polling.done():
            await polling
    finally:
        for task in (polling, told):
            task.cancel()
        await asyncio.gather(polling, told, return_exceptions=True)


@contextlib.asynccontextmanager
async def _source(chain: ChainSettings) -> AsyncIterator[WhatsOnChain]:
    async with WhatsOnChain(
        chain.source_url,
        chain.source_path,
        api_key=chain.api_key.get_secret_value() if chain.api_key else None,
        rate_per_s=chain.rate_per_s,
        timeout_s=chain.timeout_s,
    ) as source:
        yield source
