"""Background loops of a worker process: supervised, and stopped by one event."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from memepool_common.events.consumer import Subscription, run_consumer
from memepool_common.events.errors import is_infrastructure
from memepool_common.events.relay import run_relay
from memepool_common.telemetry import TASK_FAILURES

__all__ = ["Subscription", "run_all", "run_consumer", "run_every", "run_relay"]

JITTER = 0.1
log = structlog.get_logger(__name__)


async def run_every(
    interval_s: float,
    action: Callable[[], Awaitable[object]],
    stopping: asyncio.Event,
    *,
    name: str,
) -> None:
    """Do `action`, wait about `interval_s`, and again, until `stopping`; failures are logged."""
    while not stopping.is_set():
        try:
            await action()
        except Exception as error:
            if is_infrastructure(error):
                log.warning("task_paused", task=name, error=repr(error))
            else:
                TASK_FAILURES.labels(name).inc()
                log.exception("task_failed", task=name)
        try:
            async with asyncio.timeout(interval_s * random.uniform(1 - JITTER, 1 + JITTER)):  # noqa: S311 - jitter
                await stopping.wait()
        except TimeoutError:
            continue


async def run_all(*loops: Awaitable[None]) -> None:
    """Run loops until all have stopped; one that raises takes the process down with it."""
    async with asyncio.TaskGroup() as group:
        for loop in loops:
            group.create_task(_as_coroutine(loop))


async def _as_coroutine(loop: Awaitable[None]) -> None:
    await loop
