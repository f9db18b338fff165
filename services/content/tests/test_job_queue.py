"""The queue leases one job at a time, whatever plan PostgreSQL makes of it."""

from datetime import UTC, datetime
from uuid import UUID

from memepool_common.ids import uuid7
from memepool_common.testing import until
from memepool_content.store import jobs
from memepool_content.store.jobs import Stage
from memepool_content.use_cases import queue_age
from memepool_content.use_cases.queue_age import OLDEST
from services.content.tests.harness import TIMEOUT_S, ContentService
from services.content.tests.pictures import encoded, meme

LEASE_S = WAIT_S_MAX = 60.0


async def test_jobs_are_leased_one_by_one_uploads_first(content: ContentService) -> None:
    uploads = [await _uploaded(content, 0)]
    await content.as_owner("analyze processing_job")  # of one row, and so it plans from now on
    uploads += [await _uploaded(content, number) for number in (1, 2)]
    async with content.database.transaction() as session:
        await jobs.add_alternatives(
            session,
            content_id=uploads[0],
            creator_id=content.creator.user_id,
            version=2,
            now=datetime.now(UTC),
        )
        leased = [await jobs.lease(session, uuid7(), LEASE_S) for _ in range(5)]
    found = [(job.content_id, job.stage) for job in leased if job]
    assert found == [(each, Stage.DECODE) for each in uploads] + [(uploads[0], Stage.ALTERNATIVES)]


async def test_how_long_uploads_wait_is_measured(content: ContentService) -> None:
    await _uploaded(content, 0)
    await content.as_owner("update processing_job set enqueued_at = now() - interval '90 s'")
    await _uploaded(content, 1)
    assert 90 <= await _oldest_s(content, Stage.DECODE) < 90 + WAIT_S_MAX
    assert await _oldest_s(content, Stage.ALTERNATIVES) == 0
    async with content.working():
        await until(content.in_all_formats, TIMEOUT_S)
    assert await _oldest_s(content, Stage.DECODE) == 0


async def _oldest_s(content: ContentService, stage: Stage) -> float:
    await queue_age.measure(content.database)
    (metric,) = OLDEST.labels(stage).collect()
    return float(metric.samples[0].value)


async def _uploaded(content: ContentService, number: int) -> UUID:
    return UUID((await content.upload(encoded(meme(number)))).json()["id"])
