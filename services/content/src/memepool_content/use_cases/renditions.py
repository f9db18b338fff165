"""From a stored file to stored renditions, for uploads and for the image AI's results alike.

An object is entered for erasure before it is stored and taken out with the commit that needs it:
no crash leaves an orphan, and what is in use is never entered.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from memepool_common.clock import Clock
from memepool_common.db import Database, Session
from memepool_content.adapters.image_processor import ImageProcessor
from memepool_content.adapters.media_store import MediaStore, media_key
from memepool_content.imaging.result import Processed
from memepool_content.store import erasures, memes
from memepool_content.use_cases.originality import Originality

UNCLAIMED_KEPT = timedelta(hours=1)


@dataclass(frozen=True)
class Rendered:
    """What an image became. `reserved` are the objects that the commit has to keep."""

    done: Processed
    reserved: frozenset[str]


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
            ImageRejectedError, ProcessorCrashedError
        """
        async with scratch_folder() as folder:
            source, target = folder / "upload", folder / "renditions"
            await asyncio.to_thread(target.mkdir)
            await self.store.fetch(upload_key, source)
            done = await self.processor.process(source, target)
            files = {
                media_key(content_id, variant.sha256): Path(done.files[variant.name])
                for variant in done.variants
            }
            async with self.database.transaction() as session:
                used = await memes.hashes_in_use(session, content_id)
                fresh = {media_key(content_id, variant.sha256) for variant in done.variants}
                fresh -= {media_key(content_id, sha256) for sha256 in used}
                await erasures.reserve(session, fresh, self.clock.now() + UNCLAIMED_KEPT)
            for key in sorted(fresh):
                await self.store.put(key, files[key])
        return Rendered(done, frozenset(fresh))

    async def drop(self, session: Session, rendered: Rendered) -> None:
        """The renditions are not needed."""
        await erasures.hasten(session, rendered.reserved, self.clock.now())

    async def keep(self, session: Session, rendered: Rendered) -> None:
        """The renditions are needed from this commit on."""
        if not await erasures.keep(session, rendered.reserved):
            raise TimeoutError("renditions were erased before they were published")


@contextlib.asynccontextmanager
async def scratch_folder() -> AsyncIterator[Path]:
    """A folder of this machine, gone with the block."""
    with tempfile.TemporaryDirectory(prefix="memepool-image-") as name:
        yield Path(name)
