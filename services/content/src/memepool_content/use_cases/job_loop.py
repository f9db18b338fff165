"""The loop of a worker that leases jobs and works on them, several at a time."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import structlog

from memepool_common.db import Database
from memepool_common.events.errors import is_infrastructure
from memepool_content.adapters.wakeups import CHANNEL

log = structlog.get_logger(__name__)


class JobQueue(Protocol):
    """Jobs of one kind."""

    @property
    def slots(self) -> int:
        """How many may be worked on at once in this process."""
        ...

    async def lease(self) -> Any | None:
        """The next job that is due, ours for a while."""
        ...

    async def work(self, job: Any) -> None:
        """Bring a leased job forward, or give it back. Raises nothing."""
        ...


async def run_jobs(
    queues: Sequence[JobQueue], database: Database, poll_interval_s: float, stopping: asyncio.Event
) -> None:
    """Work on what is due, until `stopping`; what is in flight then is finished first."""
    wake = asyncio.Event()
    stopper = asyncio.create_task(stopping.wait())
    running: list[set[asyncio.Task[None]]] = [set() for _ in queues]
    while not stopping.is_set():
        try:
            async with database.listening(CHANNEL, wake):
                while not stopping.is_set():
                    wake.clear()
                    for queue, tasks in zip(queues, running, strict=True):
                        await _start_due(queue, tasks)
                    waker = asyncio.create_task(wake.wait())
                    await asyncio.wait(
                        {stopper, waker}.union(*running),
                        timeout=poll_interval_s,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                    waker.cancel()
        except Exception as error:
            if not is_infrastructure(error):
                log.exception("job_loop_failed")
            await asyncio.wait({stopper}, timeout=poll_interval_s)
    stopper.cancel()
    await asyncio.gather(*set().union(*running), return_exceptions=True)


async def _start_due(queue: JobQueue, tasks: set[asyncio.Task[None]]) -> None:
    tasks.difference_update({task for task in tasks if task.done()})
    while len(tasks) < queue.slots:
        job = await queue.lease()
        if job is None:
            return
        tasks.add(asyncio.create_task(queue.work(job)))
