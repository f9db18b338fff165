"""The worker's part of transformations: submit once, ask how far it is, copy, check, publish.

Each step ends in a commit, and only who holds the lease commits. A job whose submission may be out
(`submitting`) and that nobody holds any more is not submitted again: it fails, and says so.
"""

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog

from memepool_common.clock import Clock
from memepool_common.db import Database
from memepool_common.events.errors import is_infrastructure
from memepool_common.ids import uuid7
from memepool_content.adapters.aitubo import (
    ImageAI,
    ImageAIError,
    NoAnswerError,
    NotSentError,
    Order,
    RefusedError,
    RemoteState,
    Submitted,
)
from memepool_content.adapters.breaker import Breaker
from memepool_content.adapters.image_processor import ProcessorCrashedError
from memepool_content.adapters.media_store import new_upload_key
from memepool_content.adapters.result_fetcher import ResultFetcher, ResultRefusedError
from memepool_content.adapters.scratch import scratch_folder
from memepool_content.adapters.source_address import SourceAddresses
from memepool_content.domain.errors import ImageRejectedError
from memepool_content.domain.meme import Status
from memepool_content.domain.transformation import (
    Failure,
    Kind,
    State,
    Transformation,
    prompt_in_style,
    result_size,
)
from memepool_content.settings import AituboSettings, JobSettings
from memepool_content.store import erasures, memes
from memepool_content.store import transformations as store
from memepool_content.store.transformations import Leased
from memepool_content.use_cases import transformations
from memepool_content.use_cases.leases import renewing
from memepool_content.use_cases.memes import publish, show
from memepool_content.use_cases.renditions import UNCLAIMED_KEPT, Rendered, Renderer

SUBMITTED_PERCENT, RUNNING_PERCENT, COPIED_PERCENT, DONE_PERCENT = 10, 50, 90, 100
POLL_GROWTH, JITTER, CRASHES_MAX = 1.5, 0.2, 2
MODELS_KEPT = timedelta(hours=1)
SAVING_TRIES, SAVING_PAUSE_S = 5, 1.0
_NEEDS_NO_CALL = (State.SUBMITTING, State.COPIED)
_ALL = (State.QUEUED, State.SUBMITTING, State.RUNNING, State.COPIED)
log = structlog.get_logger(__name__)


@dataclass
class Transforming:
    """What transformations need."""

    renderer: Renderer
    ai: ImageAI
    fetcher: ResultFetcher
    addresses: SourceAddresses
    settings: AituboSettings
    jobs: JobSettings
    breaker: Breaker = field(init=False)
    _models: tuple[dict[str, str], float] | None = None

    def __post_init__(self) -> None:
        self.breaker = Breaker(self.settings.failures_max, self.settings.open_s)

    @property
    def slots(self) -> int:
        """How many may be worked on at once in this process."""
        return self.settings.concurrent_max

    @property
    def database(self) -> Database:
        """Where the queue is."""
        return self.renderer.database

    @property
    def clock(self) -> Clock:
        """The time."""
        return self.renderer.clock

    async def lease(self) -> Leased | None:
        """The next job. One that was queued is `submitting` before anything is submitted. While the
        circuit is open, only what needs no call, and what has been queued for too long."""
        now, calls = self.clock.now(), self.breaker.allows()
        states = _ALL if calls else _NEEDS_NO_CALL
        overdue = None if calls else now - timedelta(seconds=self.settings.queue_deadline_s)
        async with self.database.transaction() as session:
            found = await store.lease(
                session, uuid7(), self.jobs.lease_s, states, self.settings.concurrent_max, overdue
            )
            if found is None or not calls or found.job.state in _NEEDS_NO_CALL:
                return found
            self.breaker.calling()
            if found.job.state is not State.QUEUED:
                return found
            job = await store.change(
                session, found.job.id, now, state=State.SUBMITTING, submitted_at=now
            )
            assert job is not None  # noqa: S101 - the row is locked
            return Leased(job, found.lease_id, fresh=True)

    async def work(self, step: Leased) -> None:
        """Bring a leased job one step forward, or give it back."""
        try:
            async with renewing(
                self.database,
                lambda session: store.renew(session, step, self.jobs.lease_s),
                self.jobs.lease_s,
            ):
                await self._step(step)
        except Exception as error:
            outage = is_infrastructure(error)  # no fault of the job
            if not outage:
                log.exception("transformation_step_failed", job_id=str(step.job.id))
            with contextlib.suppress(Exception):  # the lease runs out by itself
                await self._later(step, self.jobs.retry_delay_s, forgiven=outage)

    async def _step(self, step: Leased) -> None:
        match step.job.state:
            case State.QUEUED:
                await self._fail(step, Failure.UNAVAILABLE, "The image AI was away for too long.")
            case State.SUBMITTING if step.fresh:
                await self._submit(step)
            case State.SUBMITTING:
                detail = "We stopped while it was being submitted; its credits may be spent."
                await self._fail(step, Failure.OUTCOME_UNKNOWN, detail)
            case State.RUNNING:
                await self._follow(step)
            case _:
                await self._check(step)

    async def _submit(self, step: Leased) -> None:
        try:
            order = await self._order(step.job)
        except ImageAIError as error:
            await self._not_submitted(step, error)
            return
        except Exception:
            await self._requeue(step)  # nothing went out
            raise
        try:
            submitted = await self.ai.submit(order)
        except ImageAIError as error:
            await self._not_submitted(step, error)
            return
        self.breaker.succeeded()
        for _ in range(SAVING_TRIES - 1):  # credits are spent: it shall not be for nothing
            try:
                await self._submitted(step, submitted)
            except Exception as error:
                if not is_infrastructure(error):
                    raise
                await asyncio.sleep(SAVING_PAUSE_S)
            else:
                return
        await self._submitted(step, submitted)

    async def _order(self, job: Transformation) -> Order:
        async with self.database.read() as session:
            meme = await memes.get(session, job.content_id)
        assert meme is not None  # noqa: S101 - rows of memes stay for ever
        width, height = result_size(meme.width or 1, meme.height or 1)
        source = self.addresses.make(meme.id, meme.version, self.clock.now())
        model_id = None if job.style is None else await self._model_named(job.style)
        prompt = job.prompt if model_id else prompt_in_style(job.prompt, job.style)
        return Order(
            kind=job.kind,
            prompt=prompt,
            source_url=None if job.kind is Kind.TEXT2IMAGE else source,
            width=width,
            height=height,
            strength=job.strength if job.kind is Kind.IMAGE2IMAGE else None,
            model_id=model_id or self.settings.model_id,
        )

    async def _model_named(self, style: str) -> str | None:
        now_s = self.clock.now().timestamp()
        if self._models is None or self._models[1] < now_s:
            try:
                models = await self.ai.models()
            except NoAnswerError as error:
                raise NotSentError(str(error)) from error  # nothing was submitted
            self._models = models, now_s + MODELS_KEPT.total_seconds()
        return self._models[0].get(style.casefold())

    async def _submitted(self, step: Leased, submitted: Submitted) -> None:
        taken: dict[str, Any] = {
            "remote_id": submitted.id,
            "credits_consumed": submitted.credits_consumed,
        }
        goes_on = await self._advance(
            step,
            state=State.RUNNING,
            progress_percent=SUBMITTED_PERCENT,
            attempts=0,
            delay_s=self.settings.poll_interval_s,
            **taken,
        )
        if not goes_on:  # it ended meanwhile, by a removal for instance; the credits are spent
            async with self.database.transaction() as session:
                job = await store.change(session, step.job.id, self.clock.now(), **taken)
                assert job is not None  # noqa: S101 - rows of jobs stay for ever
                action = "content.transformation.submitted"
                await transformations.record(session, job, action, "too_late")

    async def _not_submitted(self, step: Leased, error: ImageAIError) -> None:
        if isinstance(error, RefusedError):
            self.breaker.succeeded()
            await self._fail(step, Failure.REFUSED, str(error))
            return
        self.breaker.failed()
        if isinstance(error, NoAnswerError):
            detail = f"{error} Whether the job was taken is unknown; its credits may be spent."
            await self._fail(step, Failure.OUTCOME_UNKNOWN, detail)
            return
        waiting = self.clock.now() - step.job.created_at
        if waiting > timedelta(seconds=self.settings.queue_deadline_s):
            await self._fail(step, Failure.UNAVAILABLE, str(error))
        else:
            await self._requeue(step)

    async def _requeue(self, step: Leased) -> None:
        delay_s = self.settings.retry_delay_s * min(2 ** (step.job.attempts - 1), 8)
        await self._advance(step, state=State.QUEUED, submitted_at=None, delay_s=_jittered(delay_s))

    async def _follow(self, step: Leased) -> None:
        job = step.job
        assert job.remote_id is not None and job.submitted_at is not None  # noqa: S101, PT018 - the table says so
        try:
            remote = await self.ai.state(job.remote_id)
        except RefusedError as error:
            self.breaker.succeeded()
            await self._fail(step, Failure.REFUSED, str(error))
            return
        except ImageAIError:
            self.breaker.failed()
            remote = RemoteState()
        else:
            self.breaker.succeeded()
        if remote.ended and await self._collect(step, remote):
            return
        if self.clock.now() - job.submitted_at > timedelta(seconds=self.settings.deadline_s):
            detail = f"It was not done within {self.settings.deadline_s:g} s."
            await self._fail(step, Failure.TIMED_OUT, detail)
        elif remote.running and job.progress_percent < RUNNING_PERCENT:
            delay_s = self._poll_delay_s(job)
            await self._advance(step, progress_percent=RUNNING_PERCENT, delay_s=delay_s)
        else:
            await self._later(step, self._poll_delay_s(job))

    async def _collect(self, step: Leased, remote: RemoteState) -> bool:
        """Copy the picture of an ended job, or fail. False: try again later."""
        if remote.failure is not None:
            await self._fail(step, Failure.GENERATION_FAILED, remote.failure)
        elif remote.nsfw:
            await self._fail(step, Failure.NSFW, "The image AI flagged its picture.")
        elif not remote.image_urls:
            await self._fail(step, Failure.NO_IMAGE, "The image AI made no picture.")
        else:
            try:
                await self._copy(step, remote.image_urls[0])
            except ResultRefusedError as error:
                await self._fail(step, Failure.RESULT_REFUSED, str(error))
            except NoAnswerError:
                return False
        return True

    async def _copy(self, step: Leased, address: str) -> None:
        key = new_upload_key()
        with scratch_folder() as folder:
            await self.fetcher.fetch(address, folder / "result")
            async with self.database.transaction() as session:
                await erasures.reserve(session, [key], self.clock.now() + UNCLAIMED_KEPT)
            await self.renderer.store.put(key, folder / "result")
        copied = {"upload_key": key, "progress_percent": COPIED_PERCENT, "attempts": 0}
        if not await self._advance(step, state=State.COPIED, delay_s=0.0, **copied):  # it ended
            async with self.database.transaction() as session:
                await erasures.hasten(session, [key], self.clock.now())

    async def _check(self, step: Leased) -> None:
        job = step.job
        assert job.upload_key is not None  # noqa: S101 - the table says so
        if job.attempts > self.jobs.attempts_max:
            await self._fail(step, Failure.PROCESSING_FAILED, "Its picture could not be processed.")
            return
        try:
            rendered = await self.renderer.render(job.content_id, job.upload_key)
        except ImageRejectedError as error:
            await self._fail(step, Failure.RESULT_REJECTED, f"{error.code}: {error.detail}")
        except ProcessorCrashedError:
            if job.attempts < CRASHES_MAX:
                await self._later(step, 0)
            else:
                detail = "malformed_image: its picture makes the decoder crash."
                await self._fail(step, Failure.RESULT_REJECTED, detail)
        else:
            await self._publish(step, rendered)

    async def _publish(self, step: Leased, rendered: Rendered) -> None:
        """The picture becomes the meme's next version."""
        job, now = step.job, self.clock.now()
        assert job.upload_key is not None  # noqa: S101 - the table says so
        async with self.database.transaction() as session:
            meme = await memes.get(session, job.content_id, lock=True)
            assert meme is not None  # noqa: S101 - rows of memes stay for ever
            if meme.status is Status.REMOVED:  # and the job was stopped with it
                await self.renderer.drop(session, rendered.stored)
                return
            taken = await self.renderer.originality.claim(session, meme.id, rendered.done)
            if taken is not None:
                detail = f"{taken.code}: {taken.detail}"
                if await transformations.fail(
                    session, job, Failure.DUPLICATE, detail, now, step.lease_id
                ):
                    await self.renderer.drop(session, rendered.stored)
                    await memes.change(session, meme, now, status=Status.READY)
                return
            done = await store.change(
                session,
                job.id,
                now,
                step.lease_id,
                state=State.DONE,
                version=meme.version + 1,
                progress_percent=DONE_PERCENT,
                upload_key=None,
                lease_id=None,
                leased_until=None,
            )
            if done is None:
                raise _LeaseLostError
            await self.renderer.keep(session, rendered.stored)
            await erasures.add(session, [job.upload_key], now)
            meme = await show(session, meme, rendered.done, meme.version + 1, now)
            await publish(session, meme)
            await transformations.announce(session, done)
            await transformations.record(session, done, "content.transformation.done")

    async def _fail(self, step: Leased, failure: Failure, detail: str) -> None:
        now = self.clock.now()
        async with self.database.transaction() as session:
            meme = await memes.get(session, step.job.content_id, lock=True)
            if (
                await transformations.fail(session, step.job, failure, detail, now, step.lease_id)
                and meme is not None
                and meme.status is Status.TRANSFORMING
            ):
                await memes.change(session, meme, now, status=Status.READY)

    async def _advance(self, step: Leased, *, delay_s: float, **values: Any) -> bool:
        """Commit a change of the job, tell the owner, and let go of the lease. False: it was lost,
        and nothing has changed."""
        now = self.clock.now()
        async with self.database.transaction() as session:
            job = await store.change(
                session,
                step.job.id,
                now,
                step.lease_id,
                lease_id=None,
                leased_until=None,
                available_at=now + timedelta(seconds=delay_s),
                **values,
            )
            if job is None:
                return False
            if "upload_key" in values and not await erasures.keep(session, [values["upload_key"]]):
                raise TimeoutError("the copy was erased before it was accepted")
            await transformations.announce(session, job)
        return True

    async def _later(self, step: Leased, delay_s: float, *, forgiven: bool = False) -> None:
        async with self.database.transaction() as session:
            await store.release(session, step, self.clock.now(), delay_s, forgiven=forgiven)

    def _poll_delay_s(self, job: Transformation) -> float:
        grown = self.settings.poll_interval_s * POLL_GROWTH ** min(job.attempts - 1, 20)
        return _jittered(min(grown, self.settings.poll_interval_max_s))


class _LeaseLostError(Exception):
    """Somebody else holds the job now; nothing of ours is committed."""


def _jittered(delay_s: float) -> float:
    return delay_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load
