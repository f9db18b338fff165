"""Holds the lease of a job while it is worked on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from memepool_common.db import Database, Session


@contextlib.asynccontextmanager
async def renewing(
    database: Database, renew: Callable[[Session], Awaitable[None]], lease_s: float
) -> AsyncIterator[None]:
    """Renew a lease of `lease_s` seconds while the block runs."""

    async def keep() -> None:
        while True:
            await asyncio.sleep(lease_s / 3)
            with contextlib.suppress(Exception):  # the next renewal may succeed
                async with database.transaction() as session:
                    await renew(session)

    task = asyncio.create_task(keep(), name="lease")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
