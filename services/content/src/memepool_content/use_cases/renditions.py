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
from memepool_content.domain.errors import ImageRejectedError
from memepool_content.domain.meme import Status
from memepool_content.imaging.result import Processed
from memepool_content.store import erasures, hashes, memes

UNCLAIMED_KEPT = timedelta(hours=1)


@dataclass(frozen=True)
class Rendered:
    """What an image became. `reserved` are the objects that the commit has to keep."""

    done: Processed
    reserved: frozenset[str]


@dataclass(frozen=True)
class Renderer:
    """What making renditions needs."""

    database: Database
    store: MediaStore
    processor: ImageProcessor
    clock: Clock

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


async def claim(session: Session, content_id: UUID, done: Processed) -> ImageRejectedError | None:
    """Claim an image for a meme; the reason if it is somebody else's or was removed."""
    full = next(variant for variant in done.variants if variant.name == "full")
    holder = await hashes.claim(session, content_id, [full.sha256, done.pixel_sha256])
    if holder is None:
        return None
    other = await memes.get(session, holder)
    if other is None or other.status is Status.REMOVED:
        return ImageRejectedError("removed_before", "This image was removed and cannot come back.")
    detail = "This image was uploaded before; its first uploader keeps the credit."
    return ImageRejectedError("duplicate", detail)


@contextlib.asynccontextmanager
async def scratch_folder() -> AsyncIterator[Path]:
    """A folder of this machine, gone with the block."""
    with tempfile.TemporaryDirectory(prefix="memepool-image-") as name:
        yield Path(name)
