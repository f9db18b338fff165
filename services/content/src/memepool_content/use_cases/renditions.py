"""From a stored file to stored renditions, for uploads and for the image AI's results alike.

An object is entered for erasure before it is stored and taken out with the commit that needs it:
no crash leaves an orphan, and what is in use is never entered.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from memepool_common.clock import Clock
from memepool_common.db import Database, Session
from memepool_content.adapters.image_processor import ImageProcessor
from memepool_content.adapters.media_store import MediaStore, media_key
from memepool_content.adapters.scratch import scratch_folder
from memepool_content.domain.meme import Variant
from memepool_content.imaging.result import Processed, Written
from memepool_content.store import erasures, renditions
from memepool_content.use_cases.originality import Originality

UNCLAIMED_KEPT = timedelta(hours=1)


@dataclass(frozen=True)
class Stored:
    """Renditions in the store. `reserved` are the objects that the commit has to keep."""

    variants: tuple[Variant, ...]
    reserved: frozenset[str]


@dataclass(frozen=True)
class Rendered:
    """What an image became."""

    done: Processed
    stored: Stored


@dataclass(frozen=True)
class Renderer:
    """What making renditions needs, and publishing them."""

    database: Database
    store: MediaStore
    processor: ImageProcessor
    clock: Clock
    originality: Originality

    async def render(self, content_id: UUID, upload_key: str) -> Rendered:
        """Process a file from the store and store its renditions.

        Raises:
            ImageRejectedError, ProcessorCrashedError, DiskUnavailableError
        """
        with scratch_folder() as folder:
            source, target = folder / "upload", folder / "renditions"
            await asyncio.to_thread(target.mkdir)
            await self.store.fetch(upload_key, source)
            done = await self.processor.process(source, target)
            return Rendered(done, await self._store(content_id, done.written))

    async def alternatives(self, content_id: UUID, originals: Sequence[Variant]) -> Stored:
        """Write a version's renditions in further formats, and store them.

        Raises:
            ImageRejectedError, ProcessorCrashedError, DiskUnavailableError
        """
        with scratch_folder() as folder:
            target = folder / "renditions"
            await asyncio.to_thread(target.mkdir)
            files = [folder / original.name for original in originals]
            for original, path in zip(originals, files, strict=True):
                await self.store.fetch(media_key(content_id, original.sha256), path)
            written = await self.processor.alternatives(originals, files, target)
            return await self._store(content_id, written)

    async def _store(self, content_id: UUID, written: Written) -> Stored:
        files = {
            media_key(content_id, variant.sha256): Path(path)
            for variant, path in zip(written.variants, written.files, strict=True)
        }
        async with self.database.transaction() as session:
            used = await renditions.hashes_in_use(session, content_id)
            fresh = files.keys() - {media_key(content_id, sha256) for sha256 in used}
            await erasures.reserve(session, fresh, self.clock.now() + UNCLAIMED_KEPT)
        for key in sorted(fresh):
            await self.store.put(key, files[key])
        return Stored(written.variants, frozenset(fresh))

    async def drop(self, session: Session, stored: Stored) -> None:
        """The renditions are not needed."""
        await erasures.hasten(session, stored.reserved, self.clock.now())

    async def keep(self, session: Session, stored: Stored) -> None:
        """The renditions are needed from this commit on."""
        if not await erasures.keep(session, stored.reserved):
            raise TimeoutError("renditions were erased before they were published")
