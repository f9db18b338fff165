"""Clean renditions once more, in the formats that some clients take and others need.

Their files are our own, checked before and written by `pipeline`; what comes out looks the same.
WebP and AVIF are for size, and kept only where they are smaller than what was made first. JPEG or
PNG is for clients that show no WebP, an animation's first frame for lack of better.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from memepool_content.domain.meme import Variant
from memepool_content.imaging.output import Output
from memepool_content.imaging.result import Written

WEBP = {"quality": 82, "method": 2}
WEBP_LOSSLESS = {"lossless": True, "quality": 20, "method": 0}
AVIF = {"quality": 65, "speed": 8}
JPEG = {"quality": 85}
PNG = {"compress_level": 4}
AVIF_PIXELS_MAX = 1_500_000
"""Above, the encoder takes seconds and more memory than an image process has."""
WEBP_PIXELS_MAX = 5_000_000


def write_alternatives(
    originals: Sequence[Variant], files: Sequence[Path], folder: Path
) -> Written:
    """The alternatives of a version's renditions, in `folder`. May be none."""
    output = Output(folder)
    made: dict[tuple[str, bool], list[Variant]] = {}  # a small image is its own preview
    for original, path in zip(originals, files, strict=True):
        same = original.sha256, _stays_without_loss(original)
        if same in made:
            for variant in made[same]:
                output.repeat(original.name, variant)
            continue
        before = len(output.variants)
        kind = original.mime_type.removeprefix("image/").upper()
        with Image.open(path, formats=[kind]) as image:
            image.load()
            _write(original, image, output)
        made[same] = output.variants[before:]
    return Written(tuple(output.variants), tuple(output.files))


def _stays_without_loss(original: Variant) -> bool:
    return original.mime_type == "image/png" and original.name == "full"


def _write(original: Variant, image: Image.Image, output: Output) -> None:
    if original.mime_type == "image/webp":
        fallback: tuple[str, dict[str, Any]] = ("PNG", PNG) if "A" in image.mode else ("JPEG", JPEG)
        _save(original, image, output, *fallback)
    if getattr(image, "n_frames", 1) > 1:
        return
    pixels = original.width * original.height
    if _stays_without_loss(original):
        if pixels <= WEBP_PIXELS_MAX:
            _save_smaller(original, image, output, "WEBP", WEBP_LOSSLESS)
        return
    if original.mime_type != "image/webp" and pixels <= WEBP_PIXELS_MAX:
        _save_smaller(original, image, output, "WEBP", WEBP)
    if pixels <= AVIF_PIXELS_MAX:
        _save_smaller(original, image, output, "AVIF", AVIF)


def _save_smaller(
    original: Variant, image: Image.Image, output: Output, kind: str, options: dict[str, Any]
) -> None:
    made = _save(original, image, output, kind, options)
    if made.size_bytes >= original.size_bytes:
        output.drop(made)


def _save(
    original: Variant, image: Image.Image, output: Output, kind: str, options: dict[str, Any]
) -> Variant:
    return output.write(
        original.name, kind, image.size, lambda file: image.save(file, kind, **options)
    )
