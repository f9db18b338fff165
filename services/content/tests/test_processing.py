"""What becomes of an upload: renditions of real pictures, rejections of hostile ones."""

import hashlib
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from PIL import Image, ImageDraw

from memepool_common.clock import SystemClock
from memepool_common.ids import uuid7
from memepool_common.testing import until
from memepool_content import worker
from memepool_content.adapters.image_processor import ImageProcessor, ProcessorCrashedError
from memepool_content.adapters.media_store import (
    MediaStore,
    StoreUnavailableError,
    media_key,
    new_upload_key,
)
from memepool_content.imaging.result import Processed
from memepool_content.settings import JobSettings
from memepool_content.store import erasures
from memepool_content.use_cases.originality import Originality
from memepool_content.use_cases.processing import Processing
from memepool_content.use_cases.renditions import Renderer
from memepool_content.use_cases.strays import collect
from services.content.tests.harness import PROMPT, ContentService, Serve, event_names
from services.content.tests.pictures import (
    MIME_TYPES,
    animation,
    encoded,
    meme,
    opened,
    photograph_with_position,
    polyglot,
    webp_bomb,
)


async def served(content: ContentService, found: dict[str, object], name: str = "full") -> bytes:
    answer = await content.get(f"/content/{found['id']}/media/{name}")
    assert answer.status_code == 200
    return answer.content


async def test_stills_become_ready(working: ContentService) -> None:
    kept_as = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WEBP", "GIF": "PNG", "AVIF": "WEBP"}
    for seed, (kind, kept) in enumerate(kept_as.items()):
        # A wrong name and a wrong content type mean nothing.
        picture = encoded(meme(seed, (1200, 400)), kind)
        found = await working.processed(picture, filename="notes.txt")
        assert found["status"] == "ready", found["rejection"]
        assert found["mimeType"] == MIME_TYPES[kept]
        assert (found["width"], found["height"], found["frames"]) == (1200, 400, 1)
        assert 0.1 < found["quality"] <= 1
        sizes = {item["name"]: (item["width"], item["height"]) for item in found["variants"]}
        assert sizes == {"full": (1200, 400), "preview": (1080, 360), "thumb": (320, 107)}
        full = await served(working, found)
        assert opened(full).format == kept
        assert hashlib.sha256(full).hexdigest() == found["sha256"]
        assert len(full) == found["sizeBytes"]
        assert opened(await served(working, found, "thumb")).format == "WEBP"
    await until(lambda: working.stored("uploads") == [])


async def test_animations_stay_animated(working: ContentService) -> None:
    for count, kind in enumerate(("GIF", "WEBP", "PNG", "AVIF"), start=4):
        found = await working.processed(animation(kind, count=count))
        assert found["status"] == "ready", found["rejection"]
        assert (found["frames"], found["mimeType"]) == (count, "image/webp")
        full = opened(await served(working, found))
        assert getattr(full, "n_frames", 1) == count
        full.seek(1)
        full.load()
        assert full.info["duration"] == 100
        assert getattr(opened(await served(working, found, "thumb")), "n_frames", 1) == 1


async def test_orientation_is_applied_and_metadata_dies(working: ContentService) -> None:
    photograph = photograph_with_position(orientation=6)
    assert b"secret-description" in photograph
    assert b"secret-comment" in photograph
    found = await working.processed(photograph)
    assert (found["width"], found["height"]) == (240, 320)
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


async def test_a_rejection_says_why_and_leaves_nothing(working: ContentService) -> None:
    truncated, blank = encoded(meme())[:4_000], encoded(Image.new("RGB", (320, 240), "teal"))
    for data, code in (
        (truncated, "malformed_image"),
        (webp_bomb(), "too_many_pixels"),
        (blank, "low_quality"),
    ):
        found = await working.processed(data)
        assert (found["status"], found["variants"]) == ("rejected", [])
        assert found["rejection"]["code"] == code
        assert len(found["rejection"]["detail"]) > 10
        # Nobody else learns of it.
        assert (await working.get(f"/content/{found['id']}")).status_code == 404
    told = await working.events()
    assert event_names(told) == ["meme.processing.v1", "meme.rejected.v1"] * 3
    assert {event.audience for event in told} == {str(working.creator.user_id)}
    assert [event.data["contentId"] for event in told[::2]] == [
        event.subject for event in told[1::2]
    ]
    await until(lambda: working.stored() == [])
    assert await working.count("image_hash") == 0
    # The same file may be tried again, and the service is as well as before.
    assert (await working.upload(blank)).status_code == 202
    assert (await working.processed())["status"] == "ready"


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


async def test_near_copies_are_refused_and_other_captions_are_not(working: ContentService) -> None:
    picture = meme(4, (900, 600))
    first = await working.processed(encoded(picture, "PNG"))
    stranger = working.issuer.principal("creator")
    copies = {
        "JPEG at 40": encoded(picture, "JPEG", quality=40),
        "half the size": encoded(picture.resize((450, 300)), "WEBP"),
        "mirrored": encoded(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "JPEG"),
        "turned": encoded(picture.transpose(Image.Transpose.ROTATE_90), "PNG"),
    }
    for name, copy in copies.items():
        again = await working.processed(copy, caller=stranger)
        assert (again["rejection"] or {}).get("code") == "duplicate", name
    other = await working.processed(encoded(captioned(picture), "PNG"), caller=stranger)
    assert other["status"] == "ready", other["rejection"]

    # A near copy of what was taken down does not come back either; nothing of a copy was kept.
    await working.call("DELETE", f"/content/{first['id']}", working.creator)
    back = await working.processed(copies["mirrored"], caller=stranger)
    assert back["rejection"]["code"] == "removed_before"
    assert await working.count("fingerprint") == 2


def captioned(picture: Image.Image) -> Image.Image:
    """The same picture with other words over it."""
    image = picture.copy()
    draw = ImageDraw.Draw(image)
    for y, text in ((20, "WHEN THE BLOCK"), (480, "ARRIVES AT LAST")):
        draw.text((60, y), text, "white", font_size=80, stroke_width=6, stroke_fill="black")
    return image


async def test_events_carry_the_projection_and_its_revision(working: ContentService) -> None:
    found = await working.processed(title="Hello", tags="a,b")
    change = await working.call(
        "PUT", f"/content/{found['id']}", working.creator, json={"title": "Bye", "tags": None}
    )
    assert change.status_code == 200
    begun, first, second = await working.events()
    assert begun.audience == str(working.creator.user_id)
    assert begun.version < first.version
    assert first.version < second.version
    assert (first.data["title"], second.data["title"]) == ("Hello", "Bye")
    assert (first.data["tags"], second.data["tags"]) == (["a", "b"], [])
    assert first.data["sha256"] == second.data["sha256"] == found["sha256"]
    assert first.audience == "public"


async def test_a_job_survives_the_death_of_its_worker(content: ContentService) -> None:
    answer = (await content.upload()).json()
    # A worker took the job and died: its lease stands for a while, then the job is free.
    await content.as_owner(
        "update processing_job set attempts = 1, lease_id = gen_random_uuid(),"
        " leased_until = now() + interval '0.5 s'"
    )
    async with content.working():
        assert (await content.settled(answer["id"]))["status"] == "ready"


async def test_a_job_that_kills_its_workers_is_given_up(content: ContentService) -> None:
    answer = (await content.upload()).json()
    await content.as_owner("update processing_job set attempts = 5")
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
    assert await content.count("processing_job where stage = 'decode'") == 0


async def test_a_lost_upload_is_retried_and_then_given_up(serve: Serve) -> None:
    async with serve(jobs=JobSettings(attempts_max=2, retry_delay_s=0)) as content:
        answer = (await content.upload()).json()
        for key in content.stored("uploads"):
            (content.folder / key).unlink()
        async with content.working():
            found = await content.settled(answer["id"])
        assert found["rejection"]["code"] == "processing_failed"


class Away(MediaStore):
    """A store that does not answer."""

    async def fetch(self, key: str, target: Path) -> None:  # noqa: ARG002 - it is not asked
        raise StoreUnavailableError("away")


async def test_an_outage_of_the_store_is_no_fault_of_the_upload(serve: Serve) -> None:
    jobs = PROMPT.model_copy(update={"attempts_max": 2, "retry_delay_s": 0})
    async with serve(jobs=jobs) as content:
        answer = (await content.upload()).json()
        away = processing(content, content.processor, Away(content.settings.store))
        for _ in range(5):
            job = await away.lease()
            assert job is not None
            await away.work(job)
        async with content.working():
            assert (await content.settled(answer["id"]))["status"] == "ready"
        assert event_names(await content.events())[:2] == [
            "meme.processing.v1",
            "meme.published.v1",
        ]


class Full:
    """Image processes whose disk is full so often."""

    def __init__(self, inner: ImageProcessor, times: int) -> None:
        self._inner = inner
        self._times = times

    async def process(self, source: Path, folder: Path) -> Processed:
        if self._times > 0:
            self._times -= 1
            (folder / "full.jpeg").symlink_to("/dev/full")
        return await self._inner.process(source, folder)


async def test_a_full_disk_is_no_fault_of_the_upload(serve: Serve) -> None:
    jobs = PROMPT.model_copy(update={"attempts_max": 2, "retry_delay_s": 0})
    async with serve(jobs=jobs) as content:
        answer = (await content.upload()).json()
        full = processing(content, Full(content.processor, 5))
        for _ in range(6):
            found = (await content.get(f"/content/{answer['id']}", content.creator)).json()
            assert found["status"] == "processing"
            job = await full.lease()
            assert job is not None
            await full.work(job)
        assert (await content.settled(answer["id"]))["status"] == "ready"


def processing(
    content: ContentService, processor: Any, store: MediaStore | None = None
) -> Processing:
    """The worker's processing without its loop."""
    store = store or MediaStore(content.settings.store)
    renderer = Renderer(content.database, store, processor, SystemClock(), Originality())
    return Processing(renderer, content.settings.jobs, slots=1)


class Dying:
    """Image processes of which so many die."""

    def __init__(self, inner: ImageProcessor, deaths: float) -> None:
        self._inner = inner
        self._left = deaths

    async def process(self, source: Path, folder: Path) -> Processed:
        if self._left > 0:
            self._left -= 1
            raise ProcessorCrashedError
        return await self._inner.process(source, folder)


async def test_a_file_that_kills_its_image_process_is_tried_twice(content: ContentService) -> None:
    bad = (await content.upload()).json()
    good = (await content.upload(encoded(meme(2)))).json()
    dying = processing(content, Dying(content.processor, math.inf))
    job = await dying.lease()
    assert job is not None
    assert str(job.content_id) == bad["id"]
    await dying.work(job)
    found = (await content.get(f"/content/{bad['id']}", content.creator)).json()
    assert (found["status"], found["rejection"]["code"]) == ("rejected", "malformed_image")
    async with content.working():
        assert (await content.settled(good["id"]))["status"] == "ready"


async def test_one_accident_after_other_trouble_is_no_fault_of_the_file(
    content: ContentService,
) -> None:
    answer = (await content.upload()).json()
    await content.as_owner("update processing_job set attempts = 3")  # an outage, say
    unlucky = processing(content, Dying(content.processor, 1))
    job = await unlucky.lease()
    assert job is not None
    await unlucky.work(job)
    found = (await content.get(f"/content/{answer['id']}", content.creator)).json()
    assert found["status"] == "ready"


async def test_who_lost_the_lease_changes_nothing(content: ContentService) -> None:
    answer = (await content.upload()).json()
    slow = processing(content, content.processor)
    job = await slow.lease()
    assert job is not None
    await content.as_owner("update processing_job set lease_id = gen_random_uuid()")
    await slow.work(job)
    unchanged = await content.get(f"/content/{answer['id']}", content.creator)
    assert unchanged.json()["status"] == "processing"
    assert event_names(await content.events()) == ["meme.processing.v1"]


async def test_strays_are_collected_and_nothing_else(content: ContentService) -> None:
    async with content.working():
        shown = (await content.processed())["id"]
        await until(content.in_all_formats)
        await until(content.all_erased)
    await content.upload(encoded(meme(2)))  # waits for a worker
    store, later = MediaStore(content.settings.store), datetime.now(UTC) + timedelta(days=8)
    strays = {new_upload_key(), media_key(UUID(shown), "a" * 64), media_key(uuid7(), "b" * 64)}
    foreign = {"uploads/notes.txt", f"media/{shown}/deeper/{'a' * 64}", "media/b.txt"}
    reserved = media_key(UUID(shown), "c" * 64)  # somebody is about to publish it
    for key in {*strays, *foreign, reserved}:
        (content.folder / key).parent.mkdir(parents=True, exist_ok=True)
        (content.folder / key).write_bytes(b"x")
    async with content.database.transaction() as session:
        await erasures.reserve(session, [reserved], later + timedelta(days=1))

    await collect(content.database, store, datetime.now(UTC))
    assert await content.count("erasure") == 1  # what is young is left
    await collect(content.database, store, later)
    async with content.database.transaction() as session:
        assert {*await erasures.due(session, later, 100)} == strays
        assert await erasures.keep(session, [reserved])


def test_the_topology_names_every_queue() -> None:
    keys = ["auth.user.registered.v1", "auth.user.updated.v1"]
    assert worker.topology() == {"content.users": keys}
