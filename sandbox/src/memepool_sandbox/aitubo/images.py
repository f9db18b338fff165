"""Small images out of a prompt: the same prompt and seed, the same picture."""

import hashlib
import io
import random

from PIL import Image, ImageDraw, ImageFilter, ImageOps

SIDE_PIXELS_MIN = 64
SIDE_PIXELS_MAX = 1024
SOURCE_PIXELS_MAX = 40_000_000
_JPEG_QUALITY = 88
_SHAPES = 24
_UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class SourceImageError(Exception):
    """The image to start from cannot be used."""


def painted(prompt: str, seed: int, width: int, height: int) -> bytes:
    """A JPEG of coloured shapes, drawn from prompt and seed. Sides in pixels."""
    rng = _rng(prompt, seed)
    image = Image.new("RGB", (width, height), _colour(rng))
    draw = ImageDraw.Draw(image)
    for _ in range(_SHAPES):
        x, y = rng.randrange(width), rng.randrange(height)
        reach_x, reach_y = rng.randint(8, width // 2), rng.randint(8, height // 2)
        box = (x - reach_x, y - reach_y, x + reach_x, y + reach_y)
        rng.choice((draw.ellipse, draw.rectangle))(box, fill=_colour(rng))
    return _jpeg(image, prompt)


def restyled(source: bytes, prompt: str, seed: int, strength_percent: int) -> bytes:
    """`source` in other colours; the more `strength_percent` (1 to 100), the less is left of it.

    Raises SourceImageError when it is no image or a huge one.
    """
    rng = _rng(prompt, seed)
    try:
        with Image.open(io.BytesIO(source)) as opened:
            if opened.width * opened.height > SOURCE_PIXELS_MAX:
                raise SourceImageError("the source image is too large")
            opened.draft("RGB", (SIDE_PIXELS_MAX, SIDE_PIXELS_MAX))
            original = ImageOps.exif_transpose(opened).convert("RGB")
    except _UNREADABLE as error:
        raise SourceImageError("the source is not an image") from error
    original.thumbnail((SIDE_PIXELS_MAX, SIDE_PIXELS_MAX))
    toned = ImageOps.colorize(ImageOps.grayscale(original), _dark(rng), _colour(rng))
    styled = ImageOps.posterize(toned.filter(ImageFilter.SMOOTH_MORE), 4)
    return _jpeg(Image.blend(original, styled, strength_percent / 100), prompt)


def _rng(prompt: str, seed: int) -> random.Random:
    return random.Random(hashlib.sha256(f"{seed}:{prompt}".encode()).digest())


def _colour(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def _dark(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(90), rng.randrange(90), rng.randrange(90)


def _jpeg(image: Image.Image, caption: str) -> bytes:
    draw = ImageDraw.Draw(image)
    draw.text(
        (8, image.height - 18), caption[:60], fill="white", stroke_width=1, stroke_fill="black"
    )
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()
