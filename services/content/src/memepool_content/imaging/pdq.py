"""PDQ, the perceptual hash of 256 bits: close bits, similar images.

After "The TMK+PDQF video-hashing algorithm and the PDQ image-hashing algorithm" (Facebook, 2019):
luminance of at most 512 px a side; two passes of a box filter and decimation to 64 x 64; the 16 x
16 lowest cosine frequencies without the constant ones; a bit is set where a coefficient is above
the median. Everything before the median is linear, so that filter and decimation are one matrix
for each side, and the cosine transform another.

The forms are hashed from mirrored pixels and not by changing signs of coefficients, as the paper
proposes: the box is not symmetric, and a mirrored copy would come out up to 18 bits away.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE_PX_MAX = 512
BLOCKS = 64
FREQUENCIES = 16
PASSES = 2
QUALITY_DIVISOR = 90
QUALITY_MAX = 100

Matrix = NDArray[np.floating]


def pdq(grey: Image.Image) -> tuple[tuple[str, ...], int]:
    """The hashes of the eight forms, 64 hexadecimal digits each, as it is first; and PDQ's own
    quality from 0 to 100, below 50 of which a hash says little: there is too little to see.

    `grey` is of mode L. It is brought to `SIDE_PX_MAX` on its longer side, also if it is smaller:
    otherwise the blocks of a copy of half the size would lie elsewhere.
    """
    scale = SIDE_PX_MAX / max(grey.size)
    size = (max(1, round(grey.width * scale)), max(1, round(grey.height * scale)))
    pixels = np.asarray(grey.resize(size, Image.Resampling.BILINEAR), dtype=np.float32)
    rows, columns = _blocks(pixels.shape[0]), _blocks(pixels.shape[1])
    found = []
    for down in (rows, rows[:, ::-1]):
        half = down @ pixels
        found += [half @ across.T for across in (columns, columns[:, ::-1])]
    waves = _cosines()
    spectra = [waves @ blocks @ waves.T for blocks in found]
    forms = (*spectra, *(spectrum.T for spectrum in spectra))
    return tuple(_hexadecimal(form) for form in forms), _quality(found[0])


def _hexadecimal(found: Matrix) -> str:
    """Last row first, last column first, as the reference writes it."""
    flat = np.sort(found, axis=None)
    median = flat[flat.size // 2 - 1]  # the lower one of two, as Torben's method finds it
    bits = (found > median)[::-1, ::-1]
    return np.packbits(bits).tobytes().hex()


def _quality(blocks: Matrix) -> int:
    """How much there is to see: the sum of gradients between blocks."""
    steps = sum(
        int(np.abs(np.trunc(np.diff(blocks, axis=axis) * 100 / 255)).sum()) for axis in (0, 1)
    )
    return min(steps // QUALITY_DIVISOR, QUALITY_MAX)


@lru_cache(maxsize=64)
def _blocks(size: int) -> Matrix:
    """From `size` pixels to 64 blocks: the box filter, twice, at the middle of each block."""
    window = -(-size // (BLOCKS * PASSES))
    behind = (window + 2) // 2  # pixels from here on; the rest of the window lies before
    at = np.arange(size)
    first, last = np.maximum(at - (window - behind), 0), np.minimum(at + behind, size)
    inside = (at[None, :] >= first[:, None]) & (at[None, :] < last[:, None])
    box = inside / (last - first)[:, None]
    middles = ((np.arange(BLOCKS) + 0.5) * size / BLOCKS).astype(int)
    filtered = box[middles]
    for _ in range(PASSES - 1):
        filtered = filtered @ box
    return np.asarray(filtered, np.float32)


@lru_cache(maxsize=1)
def _cosines() -> Matrix:
    """The lowest waves of the cosine transform, the constant one left out."""
    wave, at = np.arange(1, FREQUENCIES + 1)[:, None], np.arange(BLOCKS)[None, :]
    scaled = math.sqrt(2 / BLOCKS) * np.cos(math.pi / (2 * BLOCKS) * wave * (2 * at + 1))
    return np.asarray(scaled, np.float32)
