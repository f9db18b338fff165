"""Measures an image for the quality score, and takes the hash of its pixels."""

import hashlib

from PIL import Image, ImageFilter, ImageStat

from memepool_content.domain.quality import Measurements

MEASURED_PX_MAX = 512
STRIP_ROWS = 128
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


def measure(grey: Image.Image, short_side_px: int) -> Measurements:
    """Sharpness and contrast of what `grey_of` gave, as `domain.quality` defines them."""
    edges = grey.filter(_LAPLACIAN).crop((1, 1, grey.width - 1, grey.height - 1))
    return Measurements(
        short_side_px=short_side_px,
        sharpness=ImageStat.Stat(edges).stddev[0],
        contrast=ImageStat.Stat(grey).stddev[0],
    )


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
