"""Memes for players: a coloured background, some shapes, a caption. No two are alike."""

import io
import random

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 640, 480
_SHAPES = 14
_CAPTION_SIZE = 34
_JPEG_QUALITY = 85
_MARGIN = 16

_TOP = ("When the block", "Me waiting for", "Nobody:", "My wallet when", "Satoshi be like", "POV:")
_MIDDLE = ("arrives in", "sees", "explains", "forgets", "stakes on", "outlives")
_BOTTOM = ("ten seconds", "a cat", "the mempool", "round two", "my own meme", "merkle trees")


def caption(rng: random.Random) -> str:
    """A few words that pass for a joke."""
    words = (rng.choice(_TOP), rng.choice(_MIDDLE), rng.choice(_BOTTOM))
    return f"{' '.join(words)} #{rng.randrange(10_000)}"


def draw(text: str, rng: random.Random) -> bytes:
    """A JPEG of 640 by 480 pixels with `text` on it; the picture is `rng`'s."""
    image = _gradient(_colour(rng), _colour(rng), vertical=rng.random() < 0.5)
    pen = ImageDraw.Draw(image)
    for _ in range(_SHAPES):
        _shape(pen, rng)
    half = len(text) // 2
    split = text.find(" ", half) if " " in text[half:] else len(text)
    _caption(pen, _MARGIN, text[:split])
    _caption(pen, HEIGHT - _CAPTION_SIZE - 2 * _MARGIN, text[split:].strip())
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _caption(pen: ImageDraw.ImageDraw, y: int, text: str) -> None:
    font = ImageFont.load_default(_CAPTION_SIZE)
    pen.text((_MARGIN, y), text, fill="white", font=font, stroke_width=3, stroke_fill="black")


def _gradient(
    start: tuple[int, int, int], end: tuple[int, int, int], *, vertical: bool
) -> Image.Image:
    ramp = Image.linear_gradient("L")
    if not vertical:
        ramp = ramp.rotate(90)
    ramp = ramp.resize((WIDTH, HEIGHT))
    size = (WIDTH, HEIGHT)
    return Image.composite(Image.new("RGB", size, start), Image.new("RGB", size, end), ramp)


def _shape(pen: ImageDraw.ImageDraw, rng: random.Random) -> None:
    x, y = rng.randrange(WIDTH), rng.randrange(HEIGHT)
    reach_x, reach_y = rng.randint(15, WIDTH // 3), rng.randint(15, HEIGHT // 3)
    box = (x - reach_x, y - reach_y, x + reach_x, y + reach_y)
    kind = rng.randrange(4)
    if kind == 0:
        pen.ellipse(box, fill=_colour(rng), outline="black", width=3)
    elif kind == 1:
        pen.rounded_rectangle(box, radius=12, fill=_colour(rng), outline="black", width=3)
    elif kind == 2:
        pen.regular_polygon((x, y, reach_y), rng.randint(3, 7), fill=_colour(rng), outline="black")
    else:
        pen.line((x - reach_x, y, x + reach_x, y + reach_y), fill=_colour(rng), width=9)


def _colour(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)
