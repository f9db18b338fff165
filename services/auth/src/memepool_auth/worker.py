"""The worker process, wired: relay, consumers, cleaning, key rotation."""

import asyncio
from datetime import timedelta

from memepool_auth.consumers import STATS
from memepool_auth.settings import Settings
from memepool_auth.store.cleaning import delete_expired
from memepool_auth.use_cases.keys import ensure_signing_key, rotate_if_due
from memepool_common.events import Bus, run_consumer, run_relay
from memepool_common.web.app import Probes
from memepool_common.web.lifespan import open_database
from memepool_common.worker import run_all, run_every

SOURCE = "/auth"
SUBSCRIPTIONS = (STATS,)
CLEANING_INTERVAL_S = 30
ROTATION_CHECK_INTERVAL_S = 60


def topology() -> dict[str, list[str]]:
    """The queues of this service with their bindings."""
    return {each.queue: each.routing_keys for each in SUBSCRIPTIONS}


async def run(settings: Settings, bus: Bus, probes: Probes, stopping: asyncio.Event) -> None:
    """Work until `stopping` is set; returns when what was in flight is done."""
    async with open_database(settings.database, probes, "auth-worker") as database:
        encryption_key = settings.keys.encryption_key_bytes
        async with database.transaction() as session:
            await ensure_signing_key(session, encryption_key)

        async def clean() -> None:
            async with database.transaction() as session:
                await delete_expired(session)

        async def rotate_keys() -> None:
            async with database.transaction() as session:
                age = timedelta(days=settings.keys.rotate_after_days)
                await rotate_if_due(session, encryption_key, age)

        await run_all(
            run_relay(database, bus, SOURCE, stopping),
            *(run_consumer(database, bus, each, stopping) for each in SUBSCRIPTIONS),
            run_every(CLEANING_INTERVAL_S, clean, stopping, name="auth.clean"),
            run_every(ROTATION_CHECK_INTERVAL_S, rotate_keys, stopping, name="auth.rotate_keys"),
        )
