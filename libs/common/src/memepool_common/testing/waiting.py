"""Waiting for something to become true, instead of sleeping and hoping."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

STEP_S = 0.01


async def until(
    condition: Callable[[], bool | Awaitable[bool]],
    timeout_s: float = 30.0,
    step_s: float = STEP_S,
) -> None:
    """Return as soon as `condition` holds; TimeoutError if it does not within `timeout_s`.

    It is asked every `step_s`, which is longer where asking costs something."""
    async with asyncio.timeout(timeout_s):
        while True:
            held = condition()
            if await held if inspect.isawaitable(held) else held:
                return
            await asyncio.sleep(step_s)
