"""A queued upload becomes a meme, or is rejected with the reason.

Everything that a job does may be done twice: what it stores has the same key each time, and only
who still holds the lease may finish it.
"""

import contextlib
from dataclasses import dataclass
from uuid import UUID

import structlog

from memepool_common import audit
from memepool_common.clock import Clock
from memepool_common.db import Database, Session
from memepool_common.events import outbox
from memepool_common.events.errors import is_infrastructure
from memepool_common.ids import uuid7
from memepool_content.adapters.image_processor import ProcessorCrashedError
from memepool_content.domain.errors import ImageRejectedError
from memepool_content.domain.meme import Meme, Status, check_transition
from memepool_content.domain.transformation import Failure
from memepool_content.events import (
    MemeProcessingData,
    MemeRejectedData,
    meme_processing,
    meme_rejected,
)
from memepool_content.settings import JobSettings
from memepool_content.store import erasures, hashes, jobs, memes
from memepool_content.store.jobs import Job, Stage
from memepool_content.use_cases import alternatives, transformations
from memepool_content.use_cases.leases import renewing
from memepool_content.use_cases.memes import publish, show
from memepool_content.use_cases.renditions import Rendered, Renderer

CRASHES_MAX = 2
"""An image process may die by accident once; the second time in a row, its file is to blame."""
ERASED_AT_ONCE_MAX = 100
_GIVEN_UP = ImageRejectedError(
    "processing_failed", "The image could not be processed; upload it again later."
)
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Processing:
    """What jobs need."""

    renderer: Renderer
    settings: JobSettings
    slots: int

    @property
    def database(self) -> Database:
        """Where the queue is."""
        return self.renderer.database

    @property
    def clock(self) -> Clock:
        """The time."""
        return self.renderer.clock

    async def lease(self) -> Job | None:
        """The next job, ours for a while. Of an upload, its creator hears that it has begun."""
        async with self.database.transaction() as session:
            job = await jobs.lease(session, uuid7(), self.settings.lease_s)
            if job is not None and job.stage is Stage.DECODE and job.attempts == 1:
                data = MemeProcessingData(
                    content_id=job.content_id,
                    creator_id=job.creator_id,
                    started_at=self.clock.now(),
                )
                await outbox.append(session, [meme_processing(data)])
            return job

    async def work(self, job: Job) -> None:
        """Bring a leased job to an end, or give it back."""
        try:
            if job.attempts > self.settings.attempts_max:  # its workers died, all of them
                await self._give_up(job)
                return
            async with renewing(
                self.database,
                lambda session: jobs.renew(session, job, self.settings.lease_s),
                self.settings.lease_s,
            ):
                await self._process(job)
        except Exception as error:
            outage = is_infrastructure(error)
            if not outage:
                log.exception("processing_failed", content_id=str(job.content_id))
            await self._give_back(job, outage=outage)

    async def erase_due(self) -> None:
        """Remove from the store what must go."""
        async with self.database.transaction() as session:
            keys = await erasures.due(session, self.clock.now(), ERASED_AT_ONCE_MAX)
            await self.renderer.store.delete(keys)
            await erasures.done(session, keys)

    async def _process(self, job: Job) -> None:
        if job.stage is Stage.ALTERNATIVES:
            await alternatives.write(self.renderer, job)
            return
        assert job.upload_key is not None  # noqa: S101 - the table says so
        for _ in range(CRASHES_MAX):
            try:
                rendered = await self.renderer.render(job.content_id, job.upload_key)
            except ImageRejectedError as error:
                await self._reject(job, error)
                return
            except ProcessorCrashedError:
                continue
            await self._publish(job, rendered)
            return
        detail = "The image makes the decoder crash."
        await self._reject(job, ImageRejectedError("malformed_image", detail))

    async def _publish(self, job: Job, rendered: Rendered) -> None:
        async with self.database.transaction() as session:
            meme = await self._finish(session, job)
            if meme is None:
                # Removed while we worked, or another worker took over: that one needs the bytes.
                if await _is_removed(session, job.content_id):
                    await self.renderer.drop(session, rendered.stored)
                return
            taken = await self.renderer.originality.claim(session, meme.id, rendered.done)
            if taken is not None:
                await self.renderer.drop(session, rendered.stored)
                await self._record_rejection(session, meme, taken)
                return
            await self.renderer.keep(session, rendered.stored)
            check_transition(meme.status, Status.READY)
            meme = await show(session, meme, rendered.done, meme.version, self.clock.now())
            await publish(session, meme)
            await transformations.start_waiting(session, meme, self.clock.now())

    async def _reject(self, job: Job, reason: ImageRejectedError) -> None:
        async with self.database.transaction() as session:
            meme = await self._finish(session, job)
            if meme is not None:
                await self._record_rejection(session, meme, reason)

    async def _record_rejection(
        self, session: Session, meme: Meme, reason: ImageRejectedError
    ) -> None:
        now = self.clock.now()
        check_transition(meme.status, Status.REJECTED)
        await hashes.release(session, meme.id)
        failure = f"The upload was rejected: {reason.code}."
        await transformations.stop(session, meme, Failure.SOURCE_REJECTED, failure, now)
        meme = await memes.change(
            session,
            meme,
            now,
            status=Status.REJECTED,
            rejection_code=reason.code,
            rejection_detail=reason.detail,
        )
        data = MemeRejectedData(
            content_id=meme.id,
            creator_id=meme.creator_id,
            code=reason.code,
            detail=reason.detail,
            rejected_at=now,
        )
        await outbox.append(session, [meme_rejected(data, meme.revision)])
        await audit.record(
            session,
            actor_id=None,
            account_id=meme.creator_id,
            action="content.meme.rejected",
            subject=str(meme.id),
            outcome=reason.code,
        )

    async def _finish(self, session: Session, job: Job) -> Meme | None:
        """Lock the meme, end its job and let go of the upload; None if we lost the lease."""
        meme = await memes.get(session, job.content_id, lock=True)
        if meme is None or not await jobs.finish(session, job):
            return None
        await erasures.add(session, [job.upload_key] if job.upload_key else [], self.clock.now())
        return meme

    async def _give_back(self, job: Job, *, outage: bool) -> None:
        """Try again later: not for ever, unless it is an outage, which is no fault of the job."""
        with contextlib.suppress(Exception):  # the lease runs out by itself
            if job.attempts >= self.settings.attempts_max and not outage:
                await self._give_up(job)
                return
            async with self.database.transaction() as session:
                await jobs.retry(session, job, self.settings.retry_delay_s, forgiven=outage)

    async def _give_up(self, job: Job) -> None:
        if job.stage is Stage.DECODE:
            await self._reject(job, _GIVEN_UP)
            return
        async with self.database.transaction() as session:
            await jobs.finish(session, job)


async def _is_removed(session: Session, content_id: UUID) -> bool:
    meme = await memes.get(session, content_id)
    return meme is None or meme.status is Status.REMOVED
