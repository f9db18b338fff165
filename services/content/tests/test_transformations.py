"""Transformations through the simulated AITubo, over real HTTP, with all its ways to fail."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from memepool_common.testing import until
from memepool_content.adapters.source_address import SourceAddresses
from memepool_sandbox.faults import JOB_MODES, Mode
from services.content.tests.harness import (
    ELSEWHERE,
    TIMEOUT_S,
    ContentService,
    event_names,
    problem,
)
from services.content.tests.pictures import encoded, meme, opened
from services.content.tests.studio import CREATE, GET, IMAGES, MODELS, WANTED, Open, Studio

UNKNOWN = "0198f0a0-0000-7000-8000-000000000000"


async def test_a_transformation_makes_a_new_version(studio: Studio) -> None:
    content = studio.content
    found = await content.processed(encoded(meme(3, (900, 600))))
    one = f"/content/{found['id']}"
    before = (await content.get(f"{one}/media/full?v=1")).content
    job = await studio.transformed(found["id"], style="Sandbox Painter")
    assert job["error"] is None
    assert (job["state"], job["progressPercent"], job["version"]) == ("done", 100, 2)
    assert (job["creditsConsumed"], job["kind"]) == (2, "image2image")

    after = await studio.read(found["id"])
    assert (after["status"], after["version"]) == ("ready", 2)
    assert after["sha256"] != found["sha256"]
    assert after["transformation"] == {
        "jobId": job["id"],
        "state": "done",
        "kind": "image2image",
        "prompt": "as a painting",
        "style": "Sandbox Painter",
        "strength": 0.9,
        "error": None,
    }
    assert (await content.get(one)).json() == after  # what is done is public
    full = (await content.get(f"{one}/media/full")).content
    assert opened(full).size == (900, 600)  # it began with our image
    assert (await content.get(f"{one}/media/full?v=1")).content == before  # old versions stay
    await until(content.all_erased)
    assert content.stored("uploads") == []

    events = await content.events()
    updates = [event for event in events if event.type.endswith("job.updated.v1")]
    states = [(event.data["state"], event.data["progressPercent"]) for event in updates]
    assert states[0] == ("queued", 0)
    assert states[-1] == ("done", 100)
    assert states == sorted(states, key=lambda state: state[1])
    assert {event.audience for event in updates} == {str(content.creator.user_id)}
    published = [event.data for event in events if event.type.endswith("published.v1")]
    assert [data["version"] for data in published] == [1, 2]
    assert published[1]["sha256"] == after["sha256"]


async def test_other_kinds(studio: Studio) -> None:
    content = studio.content
    found = await content.processed(encoded(meme(4)))
    for version, kind in enumerate(("text2image", "upscale"), start=2):
        job = await studio.transformed(found["id"], kind=kind)
        assert (job["state"], job["version"], job["kind"]) == ("done", version, kind), job
    # What the image AI made for one of us is nobody else's.
    other = await content.processed(encoded(meme(5)))
    job = await studio.transformed(other["id"], kind="text2image")
    assert (job["state"], job["error"]) == ("failed", "duplicate")
    unchanged = await studio.read(other["id"])
    assert (unchanged["status"], unchanged["version"]) == ("ready", 1)


async def test_transform_on_upload(studio: Studio) -> None:
    content = studio.content
    answer = await content.upload(transform='{"prompt": "in blue"}')
    assert answer.status_code == 202, answer.text
    waiting = answer.json()
    assert (waiting["status"], waiting["transformation"]["state"]) == ("processing", "queued")
    address = f"/content/{waiting['id']}/jobs/{waiting['transformation']['jobId']}"
    assert (await studio.ended(address))["state"] == "done"
    assert (await studio.read(waiting["id"]))["version"] == 2

    rejected = (await content.upload(encoded(meme(9))[:4_000], transform='{"prompt":"x"}')).json()
    job_id = rejected["transformation"]["jobId"]
    job = await studio.ended(f"/content/{rejected['id']}/jobs/{job_id}")
    assert (job["state"], job["error"]) == ("failed", "source_rejected")
    assert studio.submissions() == 1


READ_AGAIN = (Mode.SERVER_ERROR, Mode.TOO_MANY_REQUESTS, Mode.TIMEOUT, Mode.SLOW)
FAILURES = [  # the table of the README: where, how, what the job says, and how many were submitted
    (CREATE, Mode.JOB_REFUSED, "refused", 0),
    (CREATE, Mode.JOB_FAILED, "generation_failed", 1),
    (CREATE, Mode.JOB_EMPTY, "no_image", 1),
    (CREATE, Mode.JOB_NSFW, "nsfw", 1),
    (CREATE, Mode.SERVER_ERROR, "outcome_unknown", 0),
    (CREATE, Mode.GARBAGE, "outcome_unknown", 0),
    (CREATE, Mode.TIMEOUT, "outcome_unknown", 0),
    (CREATE, Mode.TOO_MANY_REQUESTS, None, 1),
    (CREATE, Mode.SLOW, None, 1),
    *((GET, mode, None, 1) for mode in (*READ_AGAIN, Mode.GARBAGE)),
    *((IMAGES, mode, None, 1) for mode in READ_AGAIN),
    (IMAGES, Mode.GARBAGE, "result_rejected", 1),
    (MODELS, Mode.SERVER_ERROR, None, 1),
]


async def test_every_failure_ends_in_its_state(studio_with: Open) -> None:
    async with studio_with(failures_max=3) as studio, studio.content.working():
        content = studio.content
        found = await content.processed()
        outcomes = []
        for number, (path, mode, _, _) in enumerate(FAILURES):
            before = studio.submissions()
            studio.faults.order(path, mode, 1)
            style = {"style": "wild"} if path == MODELS else {}
            job = await studio.transformed(found["id"], prompt=f"wish {number}", **style)
            outcomes.append((path, mode, job["error"], studio.submissions() - before))
            assert studio.faults.take(path, job=mode in JOB_MODES) is None  # it did happen
            assert (job["error"] is None) == (job["state"] == "done")
            assert (job["errorDetail"] is None) == (job["error"] is None)
            assert (await studio.read(found["id"]))["status"] == "ready"
        assert outcomes == FAILURES
        await until(lambda: content.stored("uploads") == [])


async def test_a_job_that_never_ends_is_given_up(studio_with: Open) -> None:
    async with studio_with(job_s=3600, deadline_s=0.5) as studio, studio.content.working():
        found = await studio.content.processed()
        job = await studio.transformed(found["id"])
        assert (job["state"], job["error"]) == ("failed", "timed_out")


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"result_origins": ("https://file.aitubo.ai",)}, "result_refused"),
        ({"result_bytes_max": 100}, "result_refused"),
        ({"api_key": SecretStr("wrong")}, "refused"),
        ({"source_key": SecretStr("k" * 32), "source_base_url": ELSEWHERE}, None),
    ],
)
async def test_settings_that_do_not_fit(
    studio_with: Open, values: dict[str, Any], error: str | None
) -> None:
    async with studio_with(**values) as studio, studio.content.working():
        found = await studio.content.processed()
        job = await studio.transformed(found["id"])
        assert (job["state"], job["error"]) == ("failed", error or "generation_failed")
        assert (await studio.read(found["id"]))["version"] == 1


async def test_an_ai_that_is_away_is_waited_for(studio_with: Open) -> None:
    away = "http://127.0.0.1:1"
    async with studio_with(base_url=away, failures_max=2, queue_deadline_s=0.8) as studio:
        content = studio.content
        async with content.working():
            found = await content.processed()
            job = await studio.transformed(found["id"])
        assert (job["state"], job["error"]) == ("failed", "unavailable")


async def test_jobs_survive_a_restart_and_are_never_submitted_twice(studio_with: Open) -> None:
    async with studio_with(job_s=0.6) as studio:
        content = studio.content
        async with content.working():
            first = await content.processed(encoded(meme(1)))
            second = await content.processed(encoded(meme(2)))
            running = await studio.start(first["id"])
            await until(lambda: studio.submissions() == 1, TIMEOUT_S)
        lost = await studio.start(second["id"])
        # A worker meant to submit this one, and died: whether it did, nobody knows.
        await content.as_owner(
            "update transformation set state = 'submitting', lease_id = gen_random_uuid(),"
            " leased_until = now() - interval '1 s' where state = 'queued'"
        )
        async with content.working():
            assert (await studio.ended(running))["state"] == "done"
            job = await studio.ended(lost)
        assert (job["state"], job["error"]) == ("failed", "outcome_unknown")
        assert studio.submissions() == 1


async def test_credits_are_recorded_of_a_job_that_ended_while_it_was_submitted(
    studio_with: Open,
) -> None:
    async with studio_with() as studio, studio.content.working():
        content = studio.content
        found = await content.processed()
        ordering = studio.hold(CREATE)
        await studio.start(found["id"])

        async def rows(condition: str) -> int:
            return await content.count(f"transformation where {condition}")

        async def recorded() -> bool:
            return await rows("credits_consumed = 2 and remote_id is not null") == 1

        await asyncio.wait_for(ordering.arrived.wait(), TIMEOUT_S)
        gone = await content.call("DELETE", f"/content/{found['id']}", content.creator)
        assert gone.status_code == 204
        ordering.released.set()
        await until(recorded, TIMEOUT_S)
        assert await rows("state = 'failed' and error = 'removed'") == 1
        audit = await content.get("/content/audit", content.creator)
        charged = [item for item in audit.json()["items"] if item["outcome"] == "too_late"]
        assert [item["details"]["creditsConsumed"] for item in charged] == [2]


async def test_no_more_than_allowed_are_under_way(studio_with: Open) -> None:
    async with studio_with(job_s=3600, concurrent_max=2) as studio, studio.content.working():
        content = studio.content
        for seed in (1, 2, 3):
            await studio.start((await content.processed(encoded(meme(seed))))["id"])
        await until(lambda: studio.submissions() == 2, TIMEOUT_S)
        await content.processed(encoded(meme(4)))  # meanwhile the queue was looked at again
        assert studio.submissions() == 2


async def test_who_may_and_when(studio_with: Open) -> None:
    async with studio_with(open_per_user_max=1, daily_max=2) as studio:
        content = studio.content
        async with content.working():
            found = await content.processed(encoded(meme(1)))
            other = await content.processed(encoded(meme(2)))
        path = f"/content/{found['id']}/transform"
        stranger, viewer = content.issuer.principal("creator"), content.issuer.principal("viewer")

        async def ask(caller: Any, to: str = path, **more: Any) -> Any:
            return await content.call("POST", to, caller, **{"json": WANTED, **more})

        problem(await ask(None), 401, "token_required")
        problem(await ask(viewer), 403, "role_required")
        problem(await ask(stranger), 403, "not_owner")
        problem(await ask(stranger, f"/content/{UNKNOWN}/transform"), 404, "content_not_found")
        for body in ({}, {"prompt": ""}, {"prompt": "x", "strength": 0}, {"prompt": 1}):
            problem(await ask(content.creator, json=body), 422, "invalid_request")

        key = {"Idempotency-Key": "k"}
        first, again = [await ask(content.creator, headers=key) for _ in range(2)]
        assert first.status_code == again.status_code == 202
        assert first.json() == again.json()
        assert first.headers["Location"] == again.headers["Location"]
        problem(await ask(content.creator), 409, "status_conflict")
        second = f"/content/{other['id']}/transform"
        problem(await ask(content.creator, second), 429, "transform_quota_exceeded")
        problem(await content.get(first.headers["Location"], stranger), 404, "content_not_found")
        wrong = f"/content/{other['id']}/jobs/{first.json()['id']}"
        problem(await content.get(wrong, content.creator), 404, "content_not_found")
        # Only the owner sees what is under way.
        assert (await content.get(f"/content/{found['id']}")).json()["transformation"] is None

        # A removal ends it.
        removal = await content.call("DELETE", f"/content/{found['id']}", content.creator)
        assert removal.status_code == 204
        assert event_names(await content.events())[-2:] == ["job.updated.v1", "meme.removed.v1"]
        assert (await ask(content.creator, second)).status_code == 202
        await content.as_owner(
            "update transformation set state = 'failed', error = 'refused' where state = 'queued'"
        )
        await content.as_owner("update content set status = 'ready' where status = 'transforming'")
        problem(await ask(content.creator, second), 429, "transform_quota_exceeded")


async def test_without_an_image_ai(working: ContentService) -> None:
    found = await working.processed()
    path = f"/content/{found['id']}/transform"
    answer = await working.call("POST", path, working.creator, json=WANTED)
    problem(answer, 503, "transform_unavailable")
    answer = await working.upload(encoded(meme(2)), transform='{"prompt": "x"}')
    problem(answer, 503, "transform_unavailable")
    source = f"/content/{found['id']}/source?v=1&expires=1&signature=x"
    problem(await working.get(source), 404, "content_not_found")


async def test_the_source_address_is_short_lived_and_bound(studio: Studio) -> None:
    content = studio.content
    found = await content.processed()
    settings = content.settings.aitubo
    assert settings is not None
    addresses = SourceAddresses(settings)

    def path(version: int = 1, age_s: float = 0, of: str = found["id"]) -> str:
        made = addresses.make(UUID(of), version, datetime.now(UTC) - timedelta(seconds=age_s))
        return made.removeprefix(settings.source_base_url)

    good = await content.get(path())
    assert good.status_code == 200
    assert good.headers["Cache-Control"] == "private, no-store"
    assert good.content == (await content.get(f"/content/{found['id']}/media/full")).content
    later = addresses.make(UUID(found["id"]), 1, datetime.now(UTC) + timedelta(seconds=700))
    for bad in (
        path(age_s=601),
        path(version=2),
        path().replace(found["id"], UNKNOWN),
        path()[:-1] + ("0" if path()[-1] != "0" else "1"),
        path().replace("v=1", "v=2"),
        later.removeprefix(settings.source_base_url),
    ):
        problem(await content.get(bad), 404, "content_not_found")
    problem(await content.get(f"/content/{found['id']}/source"), 422, "invalid_request")


async def test_a_removed_source_and_a_removal_midway(studio_with: Open) -> None:
    async with studio_with(job_s=3600) as studio, studio.content.working():
        content = studio.content
        found = await content.processed()
        await studio.start(found["id"])
        await until(lambda: studio.submissions() == 1, TIMEOUT_S)
        answer = await content.call("DELETE", f"/content/{found['id']}", content.creator)
        assert answer.status_code == 204
        await until(lambda: content.stored() == [])
        *_, stopped, removed = await content.events()
        assert event_names([stopped, removed]) == ["job.updated.v1", "meme.removed.v1"]
        assert (stopped.data["state"], stopped.data["error"]) == ("failed", "removed")
