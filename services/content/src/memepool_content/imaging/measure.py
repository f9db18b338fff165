"""Measures an image for the quality score, and takes the hash of its pixels."""

import hashlib

import numpy as np
from PIL import Image, ImageFilter, ImageStat

from memepool_content.domain.quality import Measurements

MEASURED_PX_MAX = 512
STRIP_ROWS = 128
BLOCK_PX = 8
STEP_MAX = 16
"""In grey levels. Blocks differ by less; drawn edges, which differ by more, count for little."""
# The Laplacian, lifted by 128 so that negative curvature survives in unsigned bytes.
_LAPLACIAN = ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=1, offset=128)


def grey_of(image: Image.Image) -> Image.Image:
    """An RGB or RGBA image in grey, on white, at most `MEASURED_PX_MAX` a side."""
    small = image
    if max(image.size) > MEASURED_PX_MAX:
        scale = MEASURED_PX_MAX / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        small = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    if small.mode == "RGBA":
        white = Image.new("RGBA", small.size, "white")
        small = Image.alpha_composite(white, small)
    return small.convert("L")


def measure(image: Image.Image, grey: Image.Image) -> Measurements:
    """An RGB or RGBA image, and what `grey_of` made of it, measured as `domain.quality` defines."""
    edges = grey.filter(_LAPLACIAN).crop((1, 1, grey.width - 1, grey.height - 1))
    return Measurements(
        short_side_px=min(image.size),
        sharpness=ImageStat.Stat(edges).stddev[0],
        contrast=ImageStat.Stat(grey).stddev[0],
        blocking=_blocking(image),
    )


def _blocking(image: Image.Image) -> float:
    """How much steps between blocks exceed those inside, as a share of these and one grey level.

    In the middle of the image at its full size, at most `MEASURED_PX_MAX` a side, for scaling hides
    blocks. Where they begin is not asked: of the 8 places, the one with the highest steps counts.
    """
    width, height = (min(side, MEASURED_PX_MAX) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    middle = grey_of(image.crop((left, top, left + width, top + height)))
    pixels = np.asarray(middle, np.int16)
    blocking = 0.0
    for axis in (0, 1):
        steps = np.minimum(np.abs(np.diff(pixels, axis=axis)), STEP_MAX).mean(axis=1 - axis)
        whole = len(steps) // BLOCK_PX * BLOCK_PX
        if whole:
            places = steps[:whole].reshape(-1, BLOCK_PX).mean(axis=0)
            inside = float(np.median(places))
            blocking += (float(places.max()) - inside) / (inside + 1) / 2
    return blocking


class PixelHash:
    """SHA-256 over size and RGBA pixels of all frames: equal however the file encodes them."""

    def __init__(self, width: int, height: int, frames: int) -> None:
        self._digest = hashlib.sha256(f"{width}x{height}x{frames}:".encode())

    def add(self, frame: Image.Image) -> None:
        """Take in one frame, in strips: a whole copy of it would double the memory."""
        for top in range(0, frame.height, STRIP_ROWS):
            box = (0, top, frame.width, min(top + STRIP_ROWS, frame.height))
            self._digest.update(frame.crop(box).convert("RGBA").tobytes())

    def hexdigest(self) -> str:
        """The hash, 64 hexadecimal digits."""
        return self._digest.hexdigest()
