"""What becomes of an upload: renditions of real pictures, rejections of hostile ones."""

import asyncio
import hashlib
import os
import signal
from pathlib import Path

import pytest
from PIL import Image

from memepool_common.testing import until
from memepool_content import worker
from memepool_content.adapters.image_processor import ImageProcessor, ProcessorCrashedError
from memepool_content.domain.errors import ImageRejectedError
from memepool_content.domain.image import Caps
from memepool_content.settings import JobSettings, ProcessorSettings
from services.content.tests.harness import ContentService, Serve, event_names
from services.content.tests.pictures import (
    MIME_TYPES,
    animation,
    encoded,
    gif_of_frames,
    meme,
    opened,
    photograph_with_position,
    png_bomb,
    polyglot,
    webp_bomb,
)


async def served(content: ContentService, found: dict[str, object], name: str = "full") -> bytes:
    answer = await content.get(f"/content/{found['id']}/media/{name}")
    assert answer.status_code == 200
    return answer.content


@pytest.mark.parametrize(
    ("kind", "kept"),
    [("JPEG", "JPEG"), ("PNG", "PNG"), ("WEBP", "WEBP"), ("GIF", "WEBP"), ("AVIF", "WEBP")],
)
async def test_stills_become_ready(working: ContentService, kind: str, kept: str) -> None:
    # A wrong name and a wrong content type mean nothing.
    found = await working.processed(encoded(meme(3, (1600, 1200)), kind), filename="notes.txt")
    assert found["status"] == "ready"
    assert found["mimeType"] == MIME_TYPES[kept]
    assert (found["width"], found["height"], found["frames"]) == (1600, 1200, 1)
    assert 0.1 < found["quality"] <= 1
    sizes = {item["name"]: (item["width"], item["height"]) for item in found["variants"]}
    assert sizes == {"full": (1600, 1200), "preview": (1080, 810), "thumb": (320, 240)}
    full = await served(working, found)
    assert opened(full).format == kept
    assert hashlib.sha256(full).hexdigest() == found["sha256"]
    assert len(full) == found["sizeBytes"]
    assert opened(await served(working, found, "thumb")).format == "WEBP"
    await until(lambda: working.stored("uploads") == [])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
async def test_animations_stay_animated(working: ContentService, kind: str) -> None:
    found = await working.processed(animation(kind))
    assert found["status"] == "ready", found["rejection"]
    assert (found["frames"], found["mimeType"]) == (5, "image/webp")
    full = opened(await served(working, found))
    assert getattr(full, "n_frames", 1) == 5
    full.seek(1)
    full.load()
    assert full.info["duration"] == 100
    assert getattr(opened(await served(working, found, "thumb")), "n_frames", 1) == 1


async def test_orientation_is_applied_and_metadata_dies(working: ContentService) -> None:
    photograph = photograph_with_position(orientation=6)
    assert b"secret-description" in photograph
    assert b"secret-comment" in photograph
    found = await working.processed(photograph)
    assert (found["width"], found["height"]) == (480, 640)
    for name in ("full", "preview", "thumb"):
        data = await served(working, found, name)
        image = opened(data)
        assert image.height > image.width
        assert dict(image.getexif()) == {}
        assert b"secret" not in data
        assert "comment" not in image.info
    upright = meme(7).transpose(Image.Transpose.ROTATE_270).getpixel((30, 30))
    shown = opened(await served(working, found)).getpixel((30, 30))
    assert isinstance(upright, tuple)
    assert isinstance(shown, tuple)
    assert all(abs(a - b) < 40 for a, b in zip(upright, shown, strict=True))


async def test_nothing_behind_the_image_survives(working: ContentService) -> None:
    found = await working.processed(polyglot())
    assert found["status"] == "ready"
    full = await served(working, found)
    assert b"script" not in full
    assert b"PK\x03\x04" not in full
    assert full.endswith(b"\xff\xd9")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encoded(meme())[:4_000], "malformed_image"),
        (encoded(meme(), "PNG")[:3_000], "malformed_image"),
        (encoded(meme(), "WEBP")[:3_000], "malformed_image"),
        (animation("GIF")[:3_000], "malformed_image"),
        (encoded(meme(), "AVIF")[:1_000], "malformed_image"),
        (b"\xff\xd8\xff" + bytes(5_000), "malformed_image"),
        (b"\x89PNG\r\n\x1a\n", "malformed_image"),
        (b"GIF89a", "malformed_image"),
        (png_bomb(100, 100), "malformed_image"),
        (png_bomb(60_000, 60_000), "too_many_pixels"),
        (png_bomb(8_000, 8_000), "too_many_pixels"),
        (webp_bomb(), "too_many_pixels"),
        (gif_of_frames(10_000), "too_many_frames"),
        (encoded(meme(1, (3000, 100))), "bad_aspect"),
        (encoded(meme(1, (20, 20)), "PNG"), "too_small"),
        (encoded(Image.new("RGB", (640, 480), "teal")), "low_quality"),
        (encoded(Image.new("RGBA", (640, 480)), "PNG"), "low_quality"),
    ],
)
async def test_hostile_files_are_rejected_with_the_reason(
    working: ContentService, data: bytes, code: str
) -> None:
    found = await working.processed(data)
    assert (found["status"], found["variants"]) == ("rejected", [])
    assert found["rejection"]["code"] == code
    assert len(found["rejection"]["detail"]) > 10
    assert event_names(await working.events()) == ["meme.rejected.v1"]
    await until(lambda: working.stored() == [])
    assert await working.count("image_hash") == 0
    # Nobody else learns of it, and the service is as well as before.
    assert (await working.get(f"/content/{found['id']}")).status_code == 404
    assert (await working.processed(encoded(meme(2))))["status"] == "ready"


async def test_the_same_pixels_are_a_duplicate_in_any_file(working: ContentService) -> None:
    first = await working.processed(encoded(meme(4), "PNG"))
    stranger = working.issuer.principal("creator")
    again = await working.processed(encoded(meme(4), "WEBP", lossless=True), caller=stranger)
    assert again["rejection"]["code"] == "duplicate"
    # What we served is known as well, whatever its name.
    full = await served(working, first)
    answer = await working.upload(full, caller=stranger)
    assert answer.status_code == 409
    assert answer.json()["contentId"] == first["id"]
    # Another caption on the same template is another meme.
    assert (await working.processed(encoded(meme(5), "PNG"), caller=stranger))["status"] == "ready"


async def test_events_carry_the_projection_and_its_revision(working: ContentService) -> None:
    found = await working.processed(title="Hello", tags="a,b")
    change = await working.call(
        "PUT", f"/content/{found['id']}", working.creator, json={"title": "Bye", "tags": None}
    )
    assert change.status_code == 200
    first, second = await working.events()
    assert first.version < second.version
    assert (first.data["title"], second.data["title"]) == ("Hello", "Bye")
    assert (first.data["tags"], second.data["tags"]) == (["a", "b"], [])
    assert first.data["sha256"] == second.data["sha256"] == found["sha256"]
    assert first.audience == "public"


async def test_a_job_survives_the_death_of_its_worker(serve: Serve) -> None:
    async with serve(jobs=JobSettings(lease_s=0.5)) as content:
        answer = (await content.upload()).json()
        # A worker took the job and died: its lease stands for a while, then the job is free.
        content.as_owner(
            "update processing_job set attempts = 1, lease_id = gen_random_uuid(),"
            " leased_until = now() + interval '0.5 s'"
        )
        async with content.working():
            assert (await content.settled(answer["id"]))["status"] == "ready"


async def test_a_job_that_kills_its_workers_is_given_up(content: ContentService) -> None:
    answer = (await content.upload()).json()
    content.as_owner("update processing_job set attempts = 5")
    async with content.working():
        found = await content.settled(answer["id"])
    assert found["rejection"]["code"] == "processing_failed"


async def test_uploads_that_were_waiting_are_processed_after_a_start(
    content: ContentService,
) -> None:
    waiting = [(await content.upload(encoded(meme(seed)))).json()["id"] for seed in (1, 2, 3)]
    async with content.working():
        for content_id in waiting:
            assert (await content.settled(content_id))["status"] == "ready"
    assert await content.count("processing_job") == 0


async def test_a_lost_upload_is_retried_and_then_given_up(serve: Serve) -> None:
    async with serve(jobs=JobSettings(attempts_max=2, retry_delay_s=0)) as content:
        answer = (await content.upload()).json()
        for key in content.stored("uploads"):
            (content.settings.store.folder / key).unlink()
        async with content.working():
            found = await content.settled(answer["id"])
        assert found["rejection"]["code"] == "processing_failed"


async def test_who_lost_the_lease_changes_nothing(content: ContentService) -> None:
    from memepool_common.clock import SystemClock
    from memepool_content.adapters.media_store import LocalMediaStore
    from memepool_content.use_cases.processing import Processing

    answer = (await content.upload()).json()
    processor = ImageProcessor(ProcessorSettings(), Caps(), 0.05)
    store = LocalMediaStore(content.settings.store.folder)
    slow = Processing(content.database, store, processor, content.settings.jobs, SystemClock())
    job = await slow.lease()
    assert job is not None
    content.as_owner("update processing_job set lease_id = gen_random_uuid()")
    await slow.work(job)
    await processor.aclose()
    unchanged = await content.get(f"/content/{answer['id']}", content.creator)
    assert unchanged.json()["status"] == "processing"
    assert await content.events() == []


# The image processes by themselves.


def written(folder: Path, data: bytes) -> tuple[Path, Path]:
    source, target = folder / "source", folder / "target"
    source.write_bytes(data)
    target.mkdir(exist_ok=True)
    return source, target


async def test_a_process_killed_midway_costs_its_file_alone(tmp_path: Path) -> None:
    processor = ImageProcessor(ProcessorSettings(processes=1), Caps(), 0.05)
    source, target = written(tmp_path, encoded(meme()))
    await processor.process(source, target)  # warm: the process is known now
    (pid,) = processor.pids
    os.kill(pid, signal.SIGSTOP)
    task = asyncio.create_task(processor.process(source, target))
    await until(lambda: processor.pids == [])
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ProcessorCrashedError):
        await task
    assert (await processor.process(source, target)).frames == 1
    await processor.aclose()


async def test_a_process_that_hangs_is_killed(tmp_path: Path) -> None:
    settings = ProcessorSettings(processes=1, wall_s=0.2)
    processor = ImageProcessor(settings, Caps(), 0.05)
    source, target = written(tmp_path, encoded(meme()))
    await processor.process(source, target)
    (pid,) = processor.pids
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(ImageRejectedError) as refused:
        await processor.process(source, target)
    assert refused.value.code == "too_costly"
    assert (await processor.process(source, target)).frames == 1
    assert processor.pids != [pid]
    await processor.aclose()


async def test_memory_is_limited(tmp_path: Path) -> None:
    settings = ProcessorSettings(processes=1, memory_bytes_max=120 * 1024 * 1024)
    processor = ImageProcessor(settings, Caps(), 0.05)
    source, target = written(tmp_path, encoded(meme(1, (4000, 4000)), "PNG"))
    with pytest.raises(ImageRejectedError) as refused:
        await processor.process(source, target)
    assert refused.value.code == "too_costly"
    source, target = written(tmp_path, encoded(meme()))
    assert (await processor.process(source, target)).frames == 1
    await processor.aclose()


async def test_processor_time_is_limited(tmp_path: Path) -> None:
    settings = ProcessorSettings(processes=1, cpu_s=1)
    processor = ImageProcessor(settings, Caps(), 0.05)
    noise = Image.effect_noise((4000, 4000), 90).convert("RGB")
    source, target = written(tmp_path, encoded(noise, "WEBP", lossless=True, method=0, quality=0))
    with pytest.raises(ImageRejectedError) as refused:
        await processor.process(source, target)
    assert refused.value.code == "too_costly"
    await processor.aclose()


async def test_idle_processes_give_their_memory_back(tmp_path: Path) -> None:
    processor = ImageProcessor(ProcessorSettings(processes=1, idle_s=0.05), Caps(), 0.05)
    source, target = written(tmp_path, encoded(meme()))
    await processor.process(source, target)
    (pid,) = processor.pids
    await until(lambda: not Path(f"/proc/{pid}").exists())
    assert processor.pids == []
    assert (await processor.process(source, target)).frames == 1
    await processor.aclose()


def test_the_topology_names_every_queue() -> None:
    keys = ["auth.user.registered.v1", "auth.user.updated.v1"]
    assert worker.topology() == {"content.users": keys}
