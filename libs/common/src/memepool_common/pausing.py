"""The wait of a loop between two turns, which an event cuts short."""

import asyncio
import contextlib


async def pause(event: asyncio.Event, duration_s: float) -> None:
    """Wait that long, or until `event` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(duration_s):
            await event.wait()
