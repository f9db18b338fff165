"""Wakes the worker when there is something to process; without it, polling would find it later."""

import contextlib

from memepool_common.db import Database, run

CHANNEL = "content_jobs"


async def wake_worker(database: Database) -> None:
    """Call after the commit, and outside of any transaction: a NOTIFY locks the whole server."""
    with contextlib.suppress(Exception):
        async with database.statement() as session:
            await run(session, f"notify {CHANNEL}")
