"""From a hostile file to clean renditions: check, decode, turn upright, measure, encode anew.

Nothing of the file but its pixels (in sRGB) and the timing of its frames reaches what is served.
"""

import contextlib
import io
import mmap
from pathlib import Path
from typing import Any

from PIL import AvifImagePlugin, Image, ImageCms

from memepool_content.domain.errors import DISK_ERRNOS, ImageRejectedError
from memepool_content.domain.image import (
    SIGNATURE_BYTES,
    Caps,
    Format,
    Header,
    check_caps,
    check_duration,
    sniff,
    too_many_pixels,
    unsupported,
)
from memepool_content.domain.meme import Variant
from memepool_content.domain.quality import Measurements, check_quality, quality_score
from memepool_content.imaging.animation import Frames, frame_duration_ms
from memepool_content.imaging.header import malformed, read_header
from memepool_content.imaging.measure import PixelHash, grey_of, measure
from memepool_content.imaging.output import Output
from memepool_content.imaging.pdq import pdq
from memepool_content.imaging.result import Processed, Written

PREVIEW_PX_MAX = 1_080
THUMB_PX_MAX = 320
JPEG_QUALITY = 90
WEBP_QUALITY = 88
PNG_EFFORT = 4
ANIMATION_QUALITY = 80
THUMB_QUALITY = 80
LOOPS_MAX = 65_535
"""What a WebP can say; an animated PNG can say more."""
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OUT_OF_MEMORY = ("encoding error 1", "encoding error 2")
"""What Pillow says when libwebp has none left."""
_SRGB = ImageCms.createProfile("sRGB")

# Each thread of a codec would reserve address space that the memory limit counts.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def process(source: Path, folder: Path, caps: Caps, quality_min: float) -> Processed:
    """Make the renditions of an uploaded file and leave them in `folder`.

    Raises:
        ImageRejectedError: it is not an image that we take, and why.
        MemoryError: it needs more than this process may use.
        OSError: the disk is full or fails, which is no fault of the file.
    """
    if source.stat().st_size == 0:
        raise malformed("it is empty")
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        kind = sniff(data[:SIGNATURE_BYTES])
        if kind is None:
            raise ImageRejectedError("unsupported_format", unsupported())
        caps = caps.of(kind)
        claimed = read_header(kind, data, caps.frames_max)  # type: ignore[arg-type]  # an mmap reads like bytes
    if claimed is not None:
        check_caps(claimed, caps)
    try:
        with Image.open(source, formats=[kind]) as image:
            # A JPEG may carry further pictures behind the first; they are not its frames.
            frames = 1 if kind is Format.JPEG else int(getattr(image, "n_frames", 1))
            opened = Header(*image.size, frames, claimed.duration_ms if claimed else 0)
            check_caps(opened, caps)
            if frames > 1:
                return _animation(image, kind, folder, caps, quality_min)
            full = _clean(image, _orientation(image))
        del image  # the decoder holds up to three more copies of the pixels
        return _still(full, kind, folder, quality_min)
    except (ImageRejectedError, MemoryError):
        raise
    except Image.DecompressionBombError as error:  # Pillow is asked before our caps are
        raise too_many_pixels(caps) from error
    except Exception as error:
        if str(error) in _OUT_OF_MEMORY:
            raise MemoryError from error
        if isinstance(error, OSError) and error.errno in DISK_ERRNOS:
            raise
        raise malformed(f"it cannot be decoded ({type(error).__name__})") from error


def _still(full: Image.Image, kind: Format, folder: Path, quality_min: float) -> Processed:
    grey = grey_of(full)
    quality = check_quality(measure(full, grey), quality_min)
    pixels = PixelHash(*full.size, 1)
    pixels.add(full)
    output = Output(folder)
    kept, options = _still_encoding(kind)

    def encode(name: str, rendition: Image.Image) -> Variant:
        return output.write(
            name, kept, rendition.size, lambda file: rendition.save(file, kept, **options)
        )

    made = encode("full", full)
    preview = _shrunk(full, PREVIEW_PX_MAX)
    if preview is full:
        output.repeat("preview", made)
    else:
        encode("preview", preview)
    _thumb(preview, output)
    return _processed(output, 1, quality, pixels, grey)


def _still_encoding(kind: Format) -> tuple[str, dict[str, Any]]:
    if kind is Format.JPEG:
        return "JPEG", {"quality": JPEG_QUALITY}
    if kind in (Format.PNG, Format.GIF):
        return "PNG", {"compress_level": PNG_EFFORT}
    return "WEBP", {"quality": WEBP_QUALITY, "method": 4}


def _animation(
    image: Image.Image, kind: Format, folder: Path, caps: Caps, quality_min: float
) -> Processed:
    """One pass over the frames to measure and time them, then one for each rendition."""
    orientation = _orientation(image)
    first = 1 if image.info.get("default_image") else 0  # of an animated PNG: not a frame
    count = int(getattr(image, "n_frames", 1)) - first
    loop = min(int(image.info.get("loop", 1 if kind is Format.GIF else 0)), LOOPS_MAX)
    durations_ms: list[int] = []
    pixels: PixelHash | None = None
    best: tuple[Measurements, Image.Image, Image.Image] | None = None
    for index in range(count):
        image.seek(first + index)
        frame = _clean(image, orientation)
        durations_ms.append(frame_duration_ms(image))
        check_duration(sum(durations_ms), caps)
        pixels = pixels or PixelHash(*frame.size, count)
        pixels.add(frame)
        if best is None or quality_score(best[0]) == 0.0:
            grey = grey_of(frame)
            best = (measure(frame, grey), frame, grey)
    if best is None or pixels is None:
        raise malformed("it holds no frame")
    measured, poster, grey = best
    quality = check_quality(measured, quality_min)
    output = Output(folder)

    def encode(name: str, px_max: int | None) -> Variant:
        def rendition(index: int) -> Image.Image:
            image.seek(first + index)
            frame = _clean(image, orientation)
            return frame if px_max is None else _shrunk(frame, px_max)

        sequence = Frames(count, rendition)
        options = {"quality": ANIMATION_QUALITY, "method": 0, "background": (0, 0, 0, 0)}
        return output.write(
            name,
            "WEBP",
            sequence.size,
            lambda file: sequence.save(
                file, "WEBP", save_all=True, duration=durations_ms, loop=loop, **options
            ),
        )

    made = encode("full", None)
    if max(poster.size) <= PREVIEW_PX_MAX:
        output.repeat("preview", made)
    else:
        encode("preview", PREVIEW_PX_MAX)
    _thumb(poster, output)
    return _processed(output, count, quality, pixels, grey)


def _thumb(image: Image.Image, output: Output) -> None:
    thumb = _shrunk(image, THUMB_PX_MAX)
    options = {"quality": THUMB_QUALITY, "method": 2}
    output.write("thumb", "WEBP", thumb.size, lambda file: thumb.save(file, "WEBP", **options))


def _processed(
    output: Output, frames: int, quality: float, pixels: PixelHash, grey: Image.Image
) -> Processed:
    written = Written(tuple(output.variants), tuple(output.files))
    return Processed(frames, quality, pixels.hexdigest(), *pdq(grey), written)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - a damaged EXIF block is no reason to refuse the picture
        return 1


def _clean(image: Image.Image, orientation: int) -> Image.Image:
    """The current frame upright, in sRGB, as RGB or RGBA, with nothing attached to it."""
    image.load()
    profile = image.info.get("icc_profile")
    frame = image
    if frame.mode.startswith(("I", "F")):  # 16 bits a channel and more
        frame = frame.convert("I").point(lambda level: level * (1 / 256)).convert("L")
    mode = "RGBA" if frame.has_transparency_data else "RGB"
    if frame.mode == "P" or "transparency" in frame.info:  # a colour, or colours of a palette,
        frame = frame.convert(mode)  # in the terms of the profile
    if profile and frame.mode in ("RGB", "RGBA", "CMYK"):
        frame = _in_srgb(frame, profile, mode)
    if frame.mode != mode:
        frame = frame.convert(mode)
    if orientation in _UPRIGHT:
        frame = frame.transpose(_UPRIGHT[orientation])
    if frame is image:
        frame = image.copy()
    frame.info.clear()
    return frame


def _in_srgb(frame: Image.Image, profile: bytes, mode: str) -> Image.Image:
    with contextlib.suppress(ImageCms.PyCMSError, OSError):  # a damaged profile is ignored
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(frame, source, _SRGB, outputMode=mode)
        if converted is not None:
            return converted
    return frame


def _shrunk(image: Image.Image, px_max: int) -> Image.Image:
    longest = max(image.size)
    if longest <= px_max:
        return image
    size = tuple(max(1, round(side * px_max / longest)) for side in image.size)
    return image.resize((size[0], size[1]), Image.Resampling.LANCZOS, reducing_gap=2.0)
