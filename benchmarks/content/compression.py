"""What the factor `compression` of the quality score makes of JPEGs: how blocky, what factor.

python -m benchmarks.content.compression
"""

import io
import random
import statistics

from PIL import Image

from benchmarks.content.near_duplicates import captioned, template
from memepool_content.domain.quality import quality_factors
from memepool_content.imaging.measure import grey_of, measure

SEED, PICTURES = 3_000_000, 40
LEVELS = (95, 85, 75, 60, 40, 20, 10, 5)


def main() -> None:
    """Print a line for each level of JPEG quality; the last one of files without loss."""
    pictures = []
    for number in range(PICTURES):
        rng = random.Random(SEED + number)
        pictures.append(captioned(template(rng), rng))
    print(f"{PICTURES} captioned templates   blocking: least, median, most   factor: median, least")
    for level in LEVELS:
        show(f"JPEG at {level}", [saved(picture, level) for picture in pictures])
    show("without loss", pictures)


def saved(picture: Image.Image, level: int) -> Image.Image:
    """The picture as a JPEG of that quality gives it."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=level)
    return Image.open(buffer).convert("RGB")


def show(title: str, pictures: list[Image.Image]) -> None:
    """One line."""
    measured = [measure(picture, grey_of(picture)) for picture in pictures]
    blocking = sorted(one.blocking for one in measured)
    factors = [quality_factors(one)["compression"] for one in measured]
    print(
        f"{title:24}{blocking[0]:8.2f}{statistics.median(blocking):8.2f}{blocking[-1]:8.2f}"
        f"{statistics.median(factors):12.2f}{min(factors):8.2f}"
    )


if __name__ == "__main__":
    main()
