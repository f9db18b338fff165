"""Transformations in the way of removals and outages: nothing is left behind, and nothing lost."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from memepool_common.clock import SystemClock
from memepool_common.testing import until
from memepool_content.adapters.aitubo import Aitubo
from memepool_content.adapters.image_processor import ImageProcessor
from memepool_content.adapters.media_store import MediaStore, StoreUnavailableError
from memepool_content.adapters.result_fetcher import ResultFetcher
from memepool_content.adapters.source_address import SourceAddresses
from memepool_content.imaging.result import Processed
from memepool_content.use_cases.originality import Originality
from memepool_content.use_cases.renditions import Renderer
from memepool_content.use_cases.transforming import Transforming
from services.content.tests.harness import TIMEOUT_S
from services.content.tests.pictures import encoded, meme
from services.content.tests.studio import IMAGES, Open


async def test_nothing_is_left_of_a_removal_while_the_picture_is_copied(
    studio_with: Open,
) -> None:
    async with studio_with() as studio:
        content = studio.content
        async with content.working():
            found = await content.processed()
            fetching = studio.hold(IMAGES)
            await studio.start(found["id"])
            await asyncio.wait_for(fetching.arrived.wait(), TIMEOUT_S)
            await content.call("DELETE", f"/content/{found['id']}", content.creator)
            fetching.released.set()
        async with content.working():  # the first has ended what it had in hand
            await content.processed(encoded(meme(2)))
            await until(content.all_erased, TIMEOUT_S)
        assert content.stored("uploads") == content.stored(f"media/{found['id']}") == []


class Interrupted:
    """Image processes; something happens before they answer."""

    def __init__(self, inner: ImageProcessor, interrupt: Callable[[], Awaitable[Any]]) -> None:
        self._inner = inner
        self._interrupt = interrupt

    async def process(self, source: Path, folder: Path) -> Processed:
        done = await self._inner.process(source, folder)
        await self._interrupt()
        return done


async def test_nothing_is_left_of_a_removal_while_the_picture_is_checked(
    studio_with: Open,
) -> None:
    async with studio_with() as studio:
        content = studio.content
        async with content.working():
            found = await content.processed()
            await until(content.in_all_formats, TIMEOUT_S)
        removed = asyncio.Event()

        async def remove() -> None:
            await content.call("DELETE", f"/content/{found['id']}", content.creator)
            removed.set()

        interrupted: Any = Interrupted(content.processor, remove)
        async with dataclasses.replace(content, processor=interrupted).working():
            await studio.start(found["id"])
            await asyncio.wait_for(removed.wait(), TIMEOUT_S)
        async with content.working():
            await content.processed(encoded(meme(2)))
            await until(content.all_erased, TIMEOUT_S)
        assert content.stored("uploads") == content.stored(f"media/{found['id']}") == []


class Away(MediaStore):
    """A store from which nothing can be read for a while."""

    times = 7

    async def fetch(self, key: str, target: Path) -> None:
        if self.times > 0:
            self.times -= 1
            raise StoreUnavailableError("away")
        await super().fetch(key, target)


async def test_an_outage_of_the_store_loses_no_picture(studio_with: Open) -> None:
    async with studio_with() as studio:
        content = studio.content
        async with content.working():
            found = await content.processed()
        address = await studio.start(found["id"])
        aitubo, jobs = content.settings.aitubo, content.settings.jobs
        assert aitubo is not None
        away = Away(content.settings.store)
        renderer = Renderer(content.database, away, content.processor, SystemClock(), Originality())
        fetcher, addresses = ResultFetcher(aitubo), SourceAddresses(aitubo)
        async with contextlib.aclosing(Aitubo(aitubo)) as ai:
            transforming = Transforming(renderer, ai, fetcher, addresses, aitubo, jobs)

            async def ended() -> bool:
                step = await transforming.lease()
                if step is not None:
                    await transforming.work(step)
                job = (await content.get(address, content.creator)).json()
                return bool(job["state"] in {"done", "failed"})

            await until(ended, TIMEOUT_S)
        assert away.times == 0
        assert (await studio.ended(address))["error"] is None


async def test_who_has_waited_too_long_is_told_at_once_while_the_circuit_is_open(
    studio_with: Open,
) -> None:
    away: dict[str, Any] = {"base_url": "http://127.0.0.1:1", "failures_max": 1, "open_s": 3600}
    async with studio_with(**away, concurrent_max=1) as studio:
        content = studio.content
        async with content.working():
            found = [(await content.processed(encoded(meme(seed))))["id"] for seed in range(1, 6)]
        running = await studio.start(found[0])
        await content.as_owner(  # asking for this one opens the circuit
            "update transformation set state = 'running', remote_id = 'x', submitted_at = now()"
        )
        overdue = [await studio.start(content_id) for content_id in found[1:-1]]
        await content.as_owner("update transformation set created_at = now() - interval '2 hours'")
        young = await studio.start(found[-1])
        async with content.working():
            for address in overdue:
                job = await studio.ended(address)
                assert (job["state"], job["error"]) == ("failed", "unavailable")
                assert job["errorDetail"] == "The image AI was away for too long."
            for content_id in found[1:-1]:
                assert (await studio.read(content_id))["status"] == "ready"
        for address, state in ((running, "running"), (young, "queued")):
            job = (await content.get(address, content.creator)).json()
            assert (job["state"], job["error"]) == (state, None)
