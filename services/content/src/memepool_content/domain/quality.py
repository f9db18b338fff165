"""The quality score: a number in [0, 1] that says whether there is something to see.

    quality = (resolution * sharpness * contrast * compression) ^ (1/4)

Each factor is in [0, 1], and the geometric mean lets no factor be bought by another: a blank
image scores 0 however large it is.

- resolution: the shorter side over 720 px, at most 1.
- sharpness: standard deviation of the Laplacian of the grey image (at most 512 px a side) over
  24 grey levels, at most 1. Text and drawn edges give 20 to 80, a blurred photograph below 5.
- contrast (blankness): standard deviation of the grey image over 48 levels, at most 1. One colour
  gives 0.
- compression: 1 / (1 + blocking - 0.25), at most 1. Blocking is how much higher the steps are
  between the blocks of 8 x 8 pixels that JPEG leaves than between the pixels inside of them, as a
  share of those (see `imaging.measure`). Good files have up to 0.25, JPEG at quality 10 up to 3.
  It also finds old blocks in a file that was saved as PNG since. Drawings of 8-pixel squares look
  the same, so this factor is never 0 and refuses nothing by itself.

Grey levels run from 0 to 255; transparency is seen on white. An animation is measured on its
first frame that is not blank, else on its first. What the factor compression makes of JPEGs:
`python -m benchmarks.content.compression`.
"""

import math
from dataclasses import dataclass

from memepool_content.domain.errors import ImageRejectedError

RESOLUTION_PX_FULL = 720
SHARPNESS_FULL = 24.0
CONTRAST_FULL = 48.0
BLOCKING_FREE = 0.25
_SAYS = {
    "resolution": "it is tiny",
    "sharpness": "it is blurred",
    "contrast": "it is blank",
    "compression": "it is compressed too much",
}


@dataclass(frozen=True, slots=True)
class Measurements:
    """What was measured: the shorter side in pixels, two deviations in grey levels, and how much
    steps between blocks exceed those inside, as a share of these."""

    short_side_px: int
    sharpness: float
    contrast: float
    blocking: float


def quality_factors(measured: Measurements) -> dict[str, float]:
    """The factors by their names."""
    found = {
        "contrast": measured.contrast / CONTRAST_FULL,  # first: what is blank is not sharp either
        "resolution": measured.short_side_px / RESOLUTION_PX_FULL,
        "sharpness": measured.sharpness / SHARPNESS_FULL,
        "compression": 1 / (1 + max(measured.blocking - BLOCKING_FREE, 0.0)),
    }
    return {name: min(max(factor, 0.0), 1.0) for name, factor in found.items()}


def quality_score(measured: Measurements) -> float:
    """The score, rounded to four places so that every platform agrees."""
    factors = quality_factors(measured)
    return round(math.prod(factors.values()) ** (1 / len(factors)), 4)


def check_quality(measured: Measurements, score_min: float) -> float:
    """The score; ImageRejectedError `low_quality` if it is below, naming what lowers it most."""
    score = quality_score(measured)
    if score < score_min:
        factors = quality_factors(measured)
        worst = min(factors, key=factors.__getitem__)
        detail = (
            f"Its quality is {score}, at least {score_min} is needed: above all, {_SAYS[worst]}."
        )
        raise ImageRejectedError("low_quality", detail)
    return score
