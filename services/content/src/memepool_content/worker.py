"""The worker process: relay, consumers, and the processing of uploads."""

import asyncio
import contextlib

import structlog

from memepool_common.clock import SystemClock
from memepool_common.events import Bus
from memepool_common.events.errors import is_infrastructure
from memepool_common.web.app import Probes
from memepool_common.web.idempotency import forget_old
from memepool_common.web.lifespan import open_database
from memepool_common.worker import run_all, run_consumer, run_every, run_relay
from memepool_content.adapters.image_processor import ImageProcessor
from memepool_content.adapters.media_store import LocalMediaStore
from memepool_content.adapters.wakeups import woken
from memepool_content.consumers import SUBSCRIPTIONS
from memepool_content.domain.image import Caps
from memepool_content.settings import Settings
from memepool_content.use_cases.processing import Processing

ERASE_INTERVAL_S = 1.0
FORGET_INTERVAL_S = 3600.0
log = structlog.get_logger(__name__)


def topology() -> dict[str, list[str]]:
    """Every durable queue of this service with its routing keys."""
    return {subscription.queue: subscription.routing_keys for subscription in SUBSCRIPTIONS}


async def run(settings: Settings, bus: Bus, probes: Probes, stopping: asyncio.Event) -> None:
    """Work until `stopping` is set; what is in flight then is finished first."""
    caps = Caps(**settings.images.model_dump(exclude={"quality_min"}))
    processor = ImageProcessor(settings.processor, caps, settings.images.quality_min)
    async with (
        open_database(settings.database, probes, "content-worker") as database,
        contextlib.aclosing(processor),
    ):
        store = LocalMediaStore(settings.store.folder)
        processing = Processing(database, store, processor, settings.jobs, SystemClock())

        async def forget() -> None:
            async with database.transaction() as session:
                await forget_old(session)

        await run_all(
            run_relay(database, bus, "/content", stopping),
            *(run_consumer(database, bus, item, stopping) for item in SUBSCRIPTIONS),
            run_processing(processing, settings, stopping),
            run_every(ERASE_INTERVAL_S, processing.erase_due, stopping, name="erasures"),
            run_every(FORGET_INTERVAL_S, forget, stopping, name="idempotency"),
        )


async def run_processing(
    processing: Processing, settings: Settings, stopping: asyncio.Event
) -> None:
    """Lease and process jobs, as many at a time as there are image processes."""
    wake = asyncio.Event()
    stopper = asyncio.create_task(stopping.wait())
    running: set[asyncio.Task[None]] = set()
    while not stopping.is_set():
        try:
            async with woken(processing.database, wake):
                while not stopping.is_set():
                    wake.clear()
                    await _start_due(processing, settings, running)
                    waker = asyncio.create_task(wake.wait())
                    await asyncio.wait(
                        {stopper, waker, *running},
                        timeout=settings.jobs.poll_interval_s,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                    waker.cancel()
                    running -= {task for task in running if task.done()}
        except Exception as error:
            if not is_infrastructure(error):
                log.exception("processing_loop_failed")
            await asyncio.wait({stopper}, timeout=settings.jobs.poll_interval_s)
    stopper.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def _start_due(
    processing: Processing, settings: Settings, running: set[asyncio.Task[None]]
) -> None:
    while len(running) < settings.processor.processes:
        job = await processing.lease()
        if job is None:
            return
        running.add(asyncio.create_task(processing.work(job), name=f"image-{job.content_id}"))
