"""What an operator runs by hand, besides the processes. Each opens the database by itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from memepool_auth.consumers import STATS
from memepool_auth.settings import Settings
from memepool_auth.store import stats
from memepool_auth.use_cases import keys
from memepool_common.db import Database, Session


async def rotate_keys(settings: Settings) -> str:
    """publish a new signing key; a line for the operator."""
    async with _transaction(settings) as session:
        kid = await keys.rotate(session, settings.keys.encryption_key_bytes, trigger="command")
    lead_s, overlap_s = keys.ROTATION_LEAD.total_seconds(), keys.OVERLAP.total_seconds()
    return f"key {kid} signs in {lead_s:.0f} s; the old ones are published for {overlap_s:.0f} s"


async def rebuild_stats(settings: Settings) -> str:
    """empty the statistics; the others' `republish` fills them again."""
    async with _transaction(settings) as session:
        await stats.clear(session, STATS.queue)
    return f"statistics are empty; now content, rounds and payments: republish {STATS.queue}"


@asynccontextmanager
async def _transaction(settings: Settings) -> AsyncIterator[Session]:
    database = Database.connect(settings.database, application_name="auth-command")
    try:
        await database.require_application_role()
        async with database.transaction() as session:
            yield session
    finally:
        await database.close()
