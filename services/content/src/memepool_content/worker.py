"""The worker process: relay, consumers, and the processing of uploads."""

import asyncio
import contextlib

from memepool_common.clock import SystemClock
from memepool_common.events import Bus, run_consumer, run_relay
from memepool_common.web.app import Probes
from memepool_common.web.idempotency import forget_old
from memepool_common.web.lifespan import open_database
from memepool_common.worker import run_all, run_every
from memepool_content.adapters.aitubo import Aitubo
from memepool_content.adapters.image_processor import ImageProcessor
from memepool_content.adapters.media_store import MediaStore
from memepool_content.adapters.result_fetcher import ResultFetcher
from memepool_content.adapters.scratch import sweep
from memepool_content.adapters.source_address import SourceAddresses
from memepool_content.consumers import SUBSCRIPTIONS
from memepool_content.domain.image import Caps
from memepool_content.settings import AituboSettings, Settings
from memepool_content.use_cases import queue_age, strays
from memepool_content.use_cases.job_loop import JobQueue, run_jobs
from memepool_content.use_cases.originality import Originality
from memepool_content.use_cases.processing import Processing
from memepool_content.use_cases.renditions import Renderer
from memepool_content.use_cases.transforming import Transforming

FORGET_INTERVAL_S = 3600.0
STRAYS_INTERVAL_S = 86_400.0
QUEUE_AGE_INTERVAL_S = 5.0


def topology() -> dict[str, list[str]]:
    """Every durable queue of this service with its routing keys."""
    return {subscription.queue: subscription.routing_keys for subscription in SUBSCRIPTIONS}


async def run(settings: Settings, bus: Bus, probes: Probes, stopping: asyncio.Event) -> None:
    """Work until `stopping` is set; what is in flight then is finished first."""
    async with contextlib.aclosing(image_processor(settings)) as processor:
        await work(settings, processor, bus, probes, stopping)


def image_processor(settings: Settings) -> ImageProcessor:
    """The image processes; none is started before there is work."""
    caps = Caps(**settings.images.model_dump(exclude={"quality_min"}))
    return ImageProcessor(settings.processor, caps, settings.images.quality_min)


async def work(
    settings: Settings,
    processor: ImageProcessor,
    bus: Bus,
    probes: Probes,
    stopping: asyncio.Event,
) -> None:
    """`run`, with image processes that outlive it."""
    sweep()
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            open_database(settings.database, probes, "content-worker")
        )
        store = MediaStore(settings.store)
        renderer = Renderer(database, store, processor, SystemClock(), Originality())
        processing = Processing(renderer, settings.jobs, settings.processor.processes)
        queues: list[JobQueue] = [processing]
        if settings.aitubo is not None:
            ai = await stack.enter_async_context(contextlib.aclosing(Aitubo(settings.aitubo)))
            queues.append(_transforming(renderer, ai, settings.aitubo, settings))

        async def forget() -> None:
            async with database.transaction() as session:
                await forget_old(session)

        async def collect_strays() -> None:
            await strays.collect(database, store, renderer.clock.now())

        async def measure_queue() -> None:
            await queue_age.measure(database)

        jobs = settings.jobs
        await run_all(
            run_relay(database, bus, "/content", stopping),
            *(run_consumer(database, bus, item, stopping) for item in SUBSCRIPTIONS),
            run_jobs(queues, database, jobs.poll_interval_s, stopping),
            run_every(jobs.erase_interval_s, processing.erase_due, stopping, name="erasures"),
            run_every(QUEUE_AGE_INTERVAL_S, measure_queue, stopping, name="queue-age"),
            run_every(STRAYS_INTERVAL_S, collect_strays, stopping, name="strays"),
            run_every(FORGET_INTERVAL_S, forget, stopping, name="idempotency"),
        )


def _transforming(
    renderer: Renderer, ai: Aitubo, aitubo: AituboSettings, settings: Settings
) -> Transforming:
    fetcher, addresses = ResultFetcher(aitubo), SourceAddresses(aitubo)
    return Transforming(renderer, ai, fetcher, addresses, aitubo, settings.jobs)
