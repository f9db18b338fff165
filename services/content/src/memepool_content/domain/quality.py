"""The quality score: a number in [0, 1] that says whether there is something to see.

    quality = (resolution * sharpness * contrast) ^ (1/3)

Each factor is in [0, 1], and the geometric mean lets no factor be bought by another: a blank
image scores 0 however large it is.

- resolution: the shorter side over 720 px, at most 1.
- sharpness: standard deviation of the Laplacian of the grey image (at most 512 px a side) over
  24 grey levels, at most 1. Text and drawn edges give 20 to 80, a blurred photograph below 5.
- contrast: standard deviation of the grey image over 48 levels, at most 1. One colour gives 0.

Grey levels run from 0 to 255; transparency is seen on white. An animation is measured on its
first frame that is not blank, else on its first.
"""

import math
from dataclasses import dataclass

from memepool_content.domain.errors import ImageRejectedError

RESOLUTION_PX_FULL = 720
SHARPNESS_FULL = 24.0
CONTRAST_FULL = 48.0


@dataclass(frozen=True, slots=True)
class Measurements:
    """What was measured: the shorter side in pixels, two deviations in grey levels."""

    short_side_px: int
    sharpness: float
    contrast: float


def quality_score(measured: Measurements) -> float:
    """The score, rounded to four places so that every platform agrees."""
    factors = (
        measured.short_side_px / RESOLUTION_PX_FULL,
        measured.sharpness / SHARPNESS_FULL,
        measured.contrast / CONTRAST_FULL,
    )
    product = 1.0
    for factor in factors:
        product *= min(max(factor, 0.0), 1.0)
    return round(math.cbrt(product), 4)


def check_quality(score: float, score_min: float) -> None:
    """Refuse what is blank, tiny or blurred beyond use: ImageRejectedError `low_quality`."""
    if score < score_min:
        detail = f"Its quality is {score}, at least {score_min} is needed: blank, tiny or blurred."
        raise ImageRejectedError("low_quality", detail)
