"""Background loops of a worker process: supervised, and stopped by one event."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from memepool_common.events.bus import Bus, BusUnavailableError, Topology
from memepool_common.events.errors import is_infrastructure
from memepool_common.events.rabbitmq import RabbitBus
from memepool_common.pausing import pause
from memepool_common.settings import BusSettings
from memepool_common.telemetry import TASK_FAILURES
from memepool_common.web.app import Probes

JITTER = 0.1
DECLARE_INTERVAL_S = 1.0
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
        await pause(stopping, _jittered(interval_s))


async def run_on_broker(
    run: Callable[[Bus], Awaitable[None]],
    settings: BusSettings,
    topology: Topology,
    probes: Probes,
    stopping: asyncio.Event,
    *,
    name: str,
) -> None:
    """Open the broker, make `topology` exist in it, then `run`; close it at the end.

    A broker that is away is waited for, and the process is not ready meanwhile.
    """
    declared = False

    async def check() -> None:
        if not declared:
            raise ConnectionError("the topology is not declared yet")

    probes.add("bus", check)
    bus = RabbitBus(settings.url.get_secret_value(), name=name)
    try:
        while not stopping.is_set():
            try:
                await bus.declare(topology)
            except BusUnavailableError as error:
                log.warning("broker_unavailable", error=repr(error))
                await pause(stopping, _jittered(DECLARE_INTERVAL_S))
                continue
            declared = True
            await run(bus)
            return
    finally:
        await bus.close()


async def run_all(*loops: Awaitable[None]) -> None:
    """Run loops until all have stopped; one that raises takes the process down with it."""
    async with asyncio.TaskGroup() as group:
        for loop in loops:
            group.create_task(_as_coroutine(loop))


async def _as_coroutine(loop: Awaitable[None]) -> None:
    await loop


def _jittered(interval_s: float) -> float:
    return interval_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load
