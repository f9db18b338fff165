"""PDQ: its eight forms, its published values, and what it makes of copies."""

from pathlib import Path

import pytest
from PIL import Image

from memepool_content.domain.originality import DISTANCE_MAX
from memepool_content.imaging.measure import grey_of
from memepool_content.imaging.pdq import pdq
from services.content.tests.pictures import encoded, meme, opened

BRIDGE = Path(__file__).parent.parent / "data" / "pdq-bridge.jpg"
PUBLISHED = "d0f8f1ccc0f4a84d0a370a3a228f67f0b36e2ed5b6623e1d33e6339c4e9c9b22"
SAME_HASH_BITS = 10
"""Between implementations, which scale differently: the paper's own allowance."""


def bits(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def test_the_published_hash_of_a_published_picture() -> None:
    with Image.open(BRIDGE) as image:
        forms, quality = pdq(image.convert("L"))
    assert bits(forms[0], PUBLISHED) <= SAME_HASH_BITS
    assert quality == 100


@pytest.mark.parametrize("turn", list(Image.Transpose))
def test_a_mirrored_or_turned_copy_has_the_same_eight_hashes(turn: Image.Transpose) -> None:
    grey = grey_of(meme(3, (640, 480)))
    forms, _ = pdq(grey)
    turned, _ = pdq(grey.transpose(turn))
    assert len(forms) == len(set(forms)) == 8
    for form in forms:
        assert min(bits(form, other) for other in turned) <= 2


def test_copies_are_near_and_others_are_not() -> None:
    picture = meme(3, (1000, 700))
    forms, quality = pdq(grey_of(picture))
    assert quality >= 50
    copies = [opened(encoded(picture, "JPEG", quality=level)) for level in (30, 80)]
    copies += [picture.resize((400, 280)), picture.convert("L").convert("RGB")]
    for copy in copies:
        assert bits(pdq(grey_of(copy))[0][0], forms[0]) <= DISTANCE_MAX
    for seed in (4, 5, 6):
        assert bits(pdq(grey_of(meme(seed, (1000, 700))))[0][0], forms[0]) > DISTANCE_MAX


def test_blank_pictures_have_a_hash_of_no_quality() -> None:
    for size in ((32, 32), (33, 250), (512, 512)):
        forms, quality = pdq(Image.new("L", size, 90))
        assert {len(form) for form in forms} == {64}
        assert quality == 0
