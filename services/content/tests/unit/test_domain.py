"""The rules of content."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memepool_content.domain.errors import (
    ForbiddenTransitionError,
    ImageRejectedError,
    InvalidMetadataError,
)
from memepool_content.domain.image import Caps, Format, Header, check_caps
from memepool_content.domain.meme import (
    Status,
    check_transition,
    clean_description,
    clean_tags,
    clean_title,
    title_of_file,
)
from memepool_content.domain.quality import Measurements, check_quality, quality_score


def test_the_life_of_a_meme() -> None:
    allowed = {
        ("processing", "ready"),
        ("processing", "rejected"),
        ("processing", "removed"),
        ("ready", "transforming"),
        ("ready", "removed"),
        ("transforming", "ready"),
        ("transforming", "removed"),
        ("rejected", "removed"),
    }
    for before, after in itertools.product(Status, Status):
        if (before.value, after.value) in allowed:
            check_transition(before, after)
        else:
            with pytest.raises(ForbiddenTransitionError):
                check_transition(before, after)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (Header(31, 500), "too_small"),
        (Header(8193, 2000), "too_many_pixels"),
        (Header(4097, 4096), "too_many_pixels"),
        (Header(2**31, 2**31), "too_many_pixels"),
        (Header(901, 100), "bad_aspect"),
        (Header(100, 100, 601), "too_many_frames"),
        (Header(1000, 1000, 61), "too_many_pixels"),
        (Header(100, 100, 2, 60_001), "too_long"),
    ],
)
def test_caps(header: Header, code: str) -> None:
    with pytest.raises(ImageRejectedError) as refused:
        check_caps(header, Caps())
    assert refused.value.code == code


def test_caps_are_inclusive() -> None:
    check_caps(Header(4096, 4096), Caps())
    check_caps(Header(32, 256), Caps())
    check_caps(Header(1000, 1000, 60, 60_000), Caps())


def test_formats_have_caps_of_their_own() -> None:
    large = Header(4096, 4096)
    for kind in Format:
        if kind in (Format.WEBP, Format.AVIF):
            with pytest.raises(ImageRejectedError):
                check_caps(large, Caps().of(kind))
        else:
            check_caps(large, Caps().of(kind))
        check_caps(Header(4096, 3072), Caps().of(kind))


levels = st.floats(0, 255, allow_nan=False)


@given(st.integers(1, 10_000), levels, levels, st.floats(0, 20))
def test_the_score_is_in_range_and_moves_with_each_measure(
    side: int, sharpness: float, contrast: float, blocking: float
) -> None:
    score = quality_score(Measurements(side, sharpness, contrast, blocking))
    assert 0 <= score <= 1
    assert quality_score(Measurements(side * 2, sharpness, contrast, blocking)) >= score
    assert quality_score(Measurements(side, sharpness + 1, contrast, blocking)) >= score
    assert quality_score(Measurements(side, sharpness, contrast + 1, blocking)) >= score
    assert quality_score(Measurements(side, sharpness, contrast, blocking + 1)) <= score


def test_no_factor_buys_another() -> None:
    assert quality_score(Measurements(10_000, 255, 0, 0)) == 0
    assert quality_score(Measurements(10_000, 0, 255, 0)) == 0
    assert quality_score(Measurements(720, 24, 48, 0.25)) == 1
    assert quality_score(Measurements(720, 24, 48, 3.25)) == 0.7071


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (Measurements(30, 1, 48, 0), "it is tiny"),
        (Measurements(720, 0.01, 48, 0), "it is blurred"),
        (Measurements(720, 24, 0.01, 0), "it is blank"),
        (Measurements(720, 0, 0, 0), "it is blank"),
        (Measurements(720, 6, 12, 15), "it is compressed too much"),
    ],
)
def test_a_refusal_names_what_is_worst(measured: Measurements, reason: str) -> None:
    score = quality_score(measured)
    assert check_quality(measured, score) == score
    with pytest.raises(ImageRejectedError, match=reason):
        check_quality(measured, score + 0.0001)


@pytest.mark.parametrize(
    ("filename", "title"),
    [
        ("cat.jpg", "cat"),
        ("a.b.c.png", "a.b.c"),
        ("C:\\pictures\\cat one.jpg", "cat one"),
        ("../../etc/passwd", "passwd"),
        (".png", ".png"),
        ("", None),
        (None, None),
        ("\u202ecat.jpg", "cat"),
        ("x" * 300 + ".jpg", "x" * 200),
    ],
)
def test_titles_of_files(filename: str | None, title: str | None) -> None:
    assert title_of_file(filename) == title


def test_text_is_cleaned() -> None:
    assert clean_title(" two\n lines\t") == "two lines"
    assert clean_title("\x1b[31m") == "[31m"
    assert clean_title(" \n ") is None
    assert clean_title(None) is None
    family = "\U0001f468\u200d\U0001f469"  # joined by a character of its own
    assert clean_title(family) == family
    assert clean_description("a\r\nb\x07") == "a\nb"
    assert clean_description("") is None
    with pytest.raises(InvalidMetadataError):
        clean_title("x" * 201)
    with pytest.raises(InvalidMetadataError):
        clean_description("x" * 2001)


def test_tags_are_cleaned() -> None:
    assert clean_tags(["#Cat", " cat ", "Größe", "", "a-b_c1"]) == ("cat", "grösse", "a-b_c1")
    for foreign in ("हिन्दी", "ไทยเดี๋ยว", "日本語"):
        assert clean_tags([foreign]) == (foreign,)
    for bad in ("\u0301", "two words", "-x", "x" * 33, "a/b", "\u202ea"):
        with pytest.raises(InvalidMetadataError):
            clean_tags([bad])


@given(st.lists(st.text(max_size=40), max_size=12))
def test_clean_tags_stay_clean(tags: list[str]) -> None:
    try:
        cleaned = clean_tags(tags)
    except InvalidMetadataError:
        return
    assert clean_tags(cleaned) == cleaned
