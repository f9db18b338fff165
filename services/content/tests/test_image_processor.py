"""The image processes by themselves: hostile files, limits, and deaths."""

import asyncio
import errno
import os
import signal
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from memepool_common.testing import until
from memepool_content.adapters import image_processor
from memepool_content.adapters.image_processor import ImageProcessor, ProcessorCrashedError
from memepool_content.domain.errors import ImageRejectedError
from memepool_content.domain.image import Caps
from memepool_content.imaging.result import Processed
from memepool_content.settings import ProcessorSettings
from services.content.tests.harness import QUALITY_MIN, image_processes
from services.content.tests.pictures import (
    animation,
    avif_claiming,
    encoded,
    gif_of_frames,
    jpeg_claiming,
    meme,
    opened,
    png_bomb,
    webp_bomb,
)


def one_stroke() -> Image.Image:
    image = Image.new("L", (320, 240), 128)
    image.paste(129, (50, 100, 270, 101))
    return image


HOSTILE = {
    "truncated JPEG": (encoded(meme())[:4_000], "malformed_image"),
    "truncated PNG": (encoded(meme(), "PNG")[:3_000], "malformed_image"),
    "truncated WebP": (encoded(meme(), "WEBP")[:2_000], "malformed_image"),
    "truncated GIF": (animation("GIF")[:3_000], "malformed_image"),
    "truncated AVIF": (encoded(meme(), "AVIF")[:1_000], "malformed_image"),
    "truncated animated WebP": (animation("WEBP")[:9_000], "malformed_image"),
    "JPEG of zeros": (b"\xff\xd8\xff" + bytes(5_000), "malformed_image"),
    "PNG signature alone": (b"\x89PNG\r\n\x1a\n", "malformed_image"),
    "GIF signature alone": (b"GIF89a", "malformed_image"),
    "PNG without pixels": (png_bomb(100, 100), "malformed_image"),
    "PNG of 60,000 a side": (png_bomb(60_000, 60_000), "too_many_pixels"),
    "PNG of 64 megapixels": (png_bomb(8_000, 8_000), "too_many_pixels"),
    "WebP of 268 megapixels": (webp_bomb(), "too_many_pixels"),
    "JPEG of 60,000 a side": (jpeg_claiming(60_000, 60_000), "too_many_pixels"),
    "JPEG of 64 megapixels": (jpeg_claiming(8_000, 8_000), "too_many_pixels"),
    "AVIF of 256 megapixels": (avif_claiming(16_000, 16_000), "too_many_pixels"),
    "AVIF of 16 megapixels": (avif_claiming(4_096, 4_096), "too_many_pixels"),
    "GIF of 10,000 frames": (gif_of_frames(10_000), "too_many_frames"),
    "GIF of a minute and more": (animation("GIF", duration_ms=20_000), "too_long"),
    "AVIF of a minute and more": (animation("AVIF", duration_ms=20_000), "too_long"),
    "thin": (encoded(meme(1, (3000, 100))), "bad_aspect"),
    "tiny": (encoded(meme(1, (20, 20)), "PNG"), "too_small"),
    "one colour": (encoded(Image.new("RGB", (320, 240), "teal")), "low_quality"),
    "transparent": (encoded(Image.new("RGBA", (320, 240)), "PNG"), "low_quality"),
    "one stroke": (encoded(one_stroke(), "PNG"), "low_quality"),
    "no image": (b"<svg></svg>", "unsupported_format"),
    "nothing": (b"", "malformed_image"),
}


async def test_hostile_files_are_refused_with_the_reason(
    processor: ImageProcessor, tmp_path: Path
) -> None:
    found = {}
    for name, (data, _) in HOSTILE.items():
        source, target = written(tmp_path, data)
        try:
            await processor.process(source, target)
            found[name] = "taken"
        except ImageRejectedError as refused:
            found[name] = refused.code
    assert found == {name: code for name, (_, code) in HOSTILE.items()}
    assert len(processor.pids) == 1  # none of them harmed the process


async def test_odd_files_are_taken(processor: ImageProcessor, tmp_path: Path) -> None:
    wide = meme(2)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for data in (
        encoded(wide.convert("CMYK")),
        encoded(wide.convert("L")),
        encoded(wide.convert("1"), "PNG"),
        encoded(wide.quantize(16), "PNG", transparency=0),
        encoded(wide.convert("L").convert("I").point(lambda v: v * 257).convert("I;16"), "PNG"),
        encoded(wide, icc_profile=profile),
        encoded(wide, icc_profile=b"damaged" * 40),
        encoded(wide, exif=b"Exif\x00\x00" + b"\xff" * 40),
        encoded(wide) + bytes(5_000),
    ):
        source, target = written(tmp_path, data)
        done = await processor.process(source, target)
        assert done.frames == 1
        assert done.quality > 0.3


async def test_an_animation_may_run_longer_than_a_webp_can_say(
    processor: ImageProcessor, tmp_path: Path
) -> None:
    frames = [meme(seed) for seed in range(3)]
    for loop, kept in ((3, 3), (65_536, 65_535), (2**32 - 1, 65_535)):
        data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], loop=loop)
        done = await processor.process(*written(tmp_path, data))
        assert done.frames == 3
        assert full_of(done).info["loop"] == kept


async def test_colours_are_those_of_the_profile(processor: ImageProcessor, tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    swapped = bytearray(profile)
    swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"  # red is green
    image = meme(3)
    image.paste("red", (0, 0, 60, 60))
    for picture in (image, image.convert("RGBA"), image.quantize(64)):
        data = encoded(picture, "PNG", icc_profile=bytes(swapped))
        done = await processor.process(*written(tmp_path, data))
        full = full_of(done).convert("RGB")
        r, g, b = full.getpixel((30, 30))  # type: ignore[misc]  # a tuple: it is RGB
        assert g > 200
        assert max(r, b) < 60


async def test_a_transparent_colour_stays_transparent(
    processor: ImageProcessor, tmp_path: Path
) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = meme(3)
    image.paste("red", (0, 0, 60, 60))
    for picture, colour in ((image, (255, 0, 0)), (image.convert("L"), 76)):
        data = encoded(picture, "PNG", transparency=colour, icc_profile=profile)
        full = full_of(await processor.process(*written(tmp_path, data)))
        alphas = [full.getpixel(at)[3] for at in ((30, 30), (90, 90))]  # type: ignore[index]  # RGBA
        assert alphas == [0, 255]


async def test_the_size_of_what_is_written_is_limited(tmp_path: Path) -> None:
    settings = ProcessorSettings(processes=1, file_bytes_max=20_000)
    processor = ImageProcessor(settings, Caps(), QUALITY_MIN)
    source, target = written(tmp_path, encoded(meme(1, (1200, 900)), quality=95))
    with pytest.raises(ImageRejectedError) as refused:
        await processor.process(source, target)
    assert refused.value.code == "too_costly"
    await processor.aclose()


async def test_what_the_limit_cuts_short_is_not_taken_for_whole(tmp_path: Path) -> None:
    processor = ImageProcessor(
        ProcessorSettings(processes=1, file_bytes_max=5_000), Caps(), QUALITY_MIN
    )
    source, target = written(tmp_path, encoded(meme()))  # of 7 kB, written all at once
    with pytest.raises(ImageRejectedError) as refused:
        await processor.process(source, target)
    assert refused.value.code == "too_costly"
    await processor.aclose()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_a_full_disk_is_no_fault_of_the_file(
    processor: ImageProcessor, tmp_path: Path, kind: str
) -> None:
    source, target = written(tmp_path, encoded(meme(), kind))
    full = target / f"full.{kind.lower()}"
    full.symlink_to("/dev/full")
    with pytest.raises(OSError) as told:  # noqa: PT011 - its number matters
        await processor.process(source, target)
    assert told.value.errno == errno.ENOSPC
    full.unlink()
    done = await processor.process(source, target)
    assert done.frames == 1

    further = tmp_path / "further"
    further.mkdir()
    for name in ("full.avif", "full.webp"):
        (further / name).symlink_to("/dev/full")
    files = [Path(path) for path in done.written.files]
    with pytest.raises(OSError) as told:  # noqa: PT011 - its number matters
        await processor.alternatives(done.written.variants, files, further)
    assert told.value.errno == errno.ENOSPC


def full_of(done: Processed) -> Image.Image:
    return opened(Path(done.written.files[0]).read_bytes())


def written(folder: Path, data: bytes) -> tuple[Path, Path]:
    source, target = folder / "source", folder / "target"
    source.write_bytes(data)
    target.mkdir(exist_ok=True)
    return source, target


async def test_a_process_killed_midway_costs_its_file_alone(tmp_path: Path) -> None:
    processor = image_processes()
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


async def test_a_process_that_hangs_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ProcessorSettings(processes=1)
    processor = ImageProcessor(settings, Caps(), QUALITY_MIN)
    source, target = written(tmp_path, encoded(meme()))
    await processor.process(source, target)
    (pid,) = processor.pids
    os.kill(pid, signal.SIGSTOP)
    with monkeypatch.context() as hurry, pytest.raises(ImageRejectedError) as refused:
        hurry.setattr(image_processor, "GRACE_S", 0.1 - settings.wall_s)  # only this once
        await processor.process(source, target)
    assert refused.value.code == "too_costly"
    assert (await processor.process(source, target)).frames == 1
    assert processor.pids != [pid]
    await processor.aclose()


def noise(side: int) -> Image.Image:
    """Pixels and transparency that compress badly."""
    image = Image.effect_noise((side, side), 60).convert("RGBA")
    image.putalpha(Image.effect_noise((side, side), 60))
    return image


async def test_memory_is_limited(tmp_path: Path) -> None:
    settings = ProcessorSettings(processes=1, memory_bytes_max=200 * 1024 * 1024)
    processor = ImageProcessor(settings, Caps(), QUALITY_MIN)
    for data in (encoded(meme(1, (4000, 4000)), "PNG"), encoded(noise(1600), "WEBP", method=0)):
        source, target = written(tmp_path, data)
        with pytest.raises(ImageRejectedError) as refused:
            await processor.process(source, target)
        assert refused.value.code == "too_costly"
    source, target = written(tmp_path, encoded(meme()))
    assert (await processor.process(source, target)).frames == 1
    await processor.aclose()


async def test_processor_time_is_limited(tmp_path: Path) -> None:
    settings = ProcessorSettings(processes=1, cpu_s=1)
    processor = ImageProcessor(settings, Caps(), QUALITY_MIN)
    side = 4_000  # of random pixels, which take long to compress
    noise = Image.frombytes("RGB", (side, side), os.urandom(3 * side * side))
    source, target = written(tmp_path, encoded(noise, "PNG", compress_level=0))
    with pytest.raises(ImageRejectedError) as refused:
        await processor.process(source, target)
    assert refused.value.code == "too_costly"
    await processor.aclose()


async def test_idle_processes_give_their_memory_back(tmp_path: Path) -> None:
    processor = ImageProcessor(ProcessorSettings(processes=1, idle_s=0.05), Caps(), QUALITY_MIN)
    source, target = written(tmp_path, encoded(meme()))
    await processor.process(source, target)
    (pid,) = processor.pids
    await until(lambda: not Path(f"/proc/{pid}").exists())
    assert processor.pids == []
    assert (await processor.process(source, target)).frames == 1
    await processor.aclose()
