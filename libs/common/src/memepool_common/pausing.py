"""The wait of a loop between two turns."""

import asyncio
import contextlib


async def pause(stopping: asyncio.Event, duration_s: float) -> None:
    """Wait that long, or until `stopping` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(duration_s):
            await stopping.wait()
