"""A version that is shown is written in further formats, after it was published.

Nobody waits for that: until it is done, or if it cannot be, everybody gets what was made first.
"""

import structlog

from memepool_common.db import Session
from memepool_content.adapters.image_processor import ProcessorCrashedError
from memepool_content.domain.errors import ImageRejectedError
from memepool_content.domain.meme import PUBLIC
from memepool_content.store import hashes, jobs, memes, renditions
from memepool_content.store.jobs import Job
from memepool_content.use_cases.renditions import Renderer, Stored

log = structlog.get_logger(__name__)


async def write(renderer: Renderer, job: Job) -> None:
    """Bring a leased job of the stage `alternatives` to its end."""
    async with renderer.database.read() as session:
        originals = await renditions.of_version(session, job.content_id, job.version)
    stored = Stored((), frozenset())
    if originals:
        try:
            stored = await renderer.alternatives(job.content_id, originals)
        except (ImageRejectedError, ProcessorCrashedError) as error:
            log.warning("no_alternatives", content_id=str(job.content_id), error=repr(error))
    async with renderer.database.transaction() as session:
        await _publish(session, renderer, job, stored)


async def _publish(session: Session, renderer: Renderer, job: Job, stored: Stored) -> None:
    meme = await memes.get(session, job.content_id, lock=True)
    mine = await jobs.finish(session, job)
    if mine and meme is not None and meme.status in PUBLIC:
        await renderer.keep(session, stored)
        await renditions.add_alternatives(session, meme.id, job.version, stored.variants)
        for variant in stored.variants:  # a copy of what we serve is known at once
            await hashes.claim(session, meme.id, [variant.sha256])
    elif meme is None or meme.status not in PUBLIC:
        await renderer.drop(session, stored)
    # Else another worker took over, and needs the bytes.
