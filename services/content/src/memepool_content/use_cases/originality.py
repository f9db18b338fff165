"""Is an image new? The first uploader keeps the credit, and what was removed stays away."""

import asyncio
from uuid import UUID

from memepool_common.db import Session
from memepool_content.adapters.near_index import NearIndex
from memepool_content.domain.errors import ImageRejectedError
from memepool_content.domain.meme import Status
from memepool_content.domain.originality import DISTANCE_MAX, PDQ_QUALITY_MIN
from memepool_content.imaging.result import Processed
from memepool_content.store import fingerprints, hashes, memes

PAGE = 50_000


class Originality:
    """Exact hashes in the database; near ones in an index that follows it."""

    def __init__(self) -> None:
        self._index = NearIndex()
        self._one_at_a_time = asyncio.Lock()

    async def claim(
        self, session: Session, content_id: UUID, done: Processed
    ) -> ImageRejectedError | None:
        """Claim an image for a meme. If it is another's, or was removed: why, and no claim."""
        mine = [done.full.sha256, done.pixel_sha256]
        exact = await hashes.claim(session, content_id, mine)
        if exact is not None:
            return await _taken(session, exact, "the same as")
        if done.pdq_quality < PDQ_QUALITY_MIN:
            return None
        forms = [bytes.fromhex(form) for form in done.pdq]
        await fingerprints.lock(session)
        async with self._one_at_a_time:
            await self._follow(session)
            near = self._index.near(forms, DISTANCE_MAX)
        if near:
            other = await fingerprints.first_other(session, near, content_id)
            if other is not None:
                await hashes.unclaim(session, content_id, mine)
                return await _taken(session, other, "nearly the same as")
        await fingerprints.add(session, content_id, forms[0])
        return None

    async def _follow(self, session: Session) -> None:
        """Take in what was committed since the last time."""
        while page := await fingerprints.after(session, self._index.last, PAGE):
            self._index.add([seq for seq, _ in page], [pdq for _, pdq in page])
        await asyncio.to_thread(self._index.sort_in)


async def _taken(session: Session, holder: UUID, how: str) -> ImageRejectedError:
    other = await memes.get(session, holder)
    if other is None or other.status is Status.REMOVED:
        detail = f"This image is {how} one that was removed and cannot come back."
        return ImageRejectedError("removed_before", detail)
    detail = f"This image is {how} one that was uploaded before; its first uploader has the credit."
    return ImageRejectedError("duplicate", detail)
