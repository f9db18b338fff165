"""What is measured of pictures for their quality."""

import pytest
from PIL import Image

from memepool_content.domain.quality import quality_score
from memepool_content.imaging.measure import grey_of, measure
from services.content.tests.pictures import encoded, meme, opened


def blocking(image: Image.Image) -> float:
    return measure(image, grey_of(image)).blocking


@pytest.mark.parametrize("size", [(640, 480), (300, 500), (200, 150)])
def test_compression_leaves_blocks(size: tuple[int, int]) -> None:
    picture = meme(3, size)
    good, bad = (opened(encoded(picture, quality=level)).convert("RGB") for level in (90, 8))
    assert blocking(picture) < 0.25
    assert blocking(good) < 0.25
    assert blocking(bad) > 0.5
    assert quality_score(measure(bad, grey_of(bad))) < quality_score(measure(good, grey_of(good)))
    # Blocks are found wherever they begin, in whatever file.
    shifted = opened(encoded(bad.crop((3, 5, *size)), "PNG")).convert("RGB")
    assert blocking(shifted) > 0.5


@pytest.mark.parametrize("size", [(32, 32), (32, 8), (8, 32), (9, 250)])
def test_small_pictures_can_be_measured(size: tuple[int, int]) -> None:
    assert blocking(Image.new("RGB", size, "teal")) == 0
    assert blocking(Image.effect_noise(size, 60).convert("RGBA")) >= 0
