"""Headers are read as they are, and no bytes whatever can upset the reader."""

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memepool_content.domain.errors import ImageRejectedError
from memepool_content.domain.image import Format, Header, sniff
from memepool_content.imaging.header import read_header
from services.content.tests.pictures import (
    animation,
    encoded,
    gif_of_frames,
    meme,
    opened,
    png_bomb,
    webp_bomb,
)

WALKED = (Format.GIF, Format.WEBP, Format.PNG)
FILES = {kind: (encoded(meme(), kind), animation(kind)) for kind in WALKED}


@pytest.mark.parametrize("kind", WALKED)
def test_reads_what_pillow_reads(kind: Format) -> None:
    still, moving = FILES[kind]
    assert sniff(still) == sniff(moving) == kind
    assert read_header(kind, still, 600) == Header(320, 240, 1, 0)
    assert read_header(kind, moving, 600) == Header(320, 240, 5, 500)
    assert opened(moving).size == (320, 240)
    lossless = encoded(meme(), "WEBP", lossless=True)
    assert read_header(Format.WEBP, lossless, 600) == Header(320, 240)


def test_what_decoders_pass_over_says_nothing() -> None:
    canvas = (63).to_bytes(3, "little")
    later = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas + canvas
    data = encoded(meme(), "WEBP")[12:] + later
    data = b"RIFF" + struct.pack("<I", 4 + len(data)) + b"WEBP" + data
    assert opened(data).size == (320, 240)
    assert read_header(Format.WEBP, data, 600) == Header(320, 240)


def test_claims_are_read_without_decoding() -> None:
    assert read_header(Format.PNG, png_bomb(60_000, 50_000), 600) == Header(60_000, 50_000)
    assert read_header(Format.WEBP, webp_bomb(), 600) == Header(16_383, 16_383)


def test_counting_stops_behind_the_cap() -> None:
    header = read_header(Format.GIF, gif_of_frames(10_000), 600)
    assert header is not None
    assert header.frames == 601


def test_a_frame_that_reaches_beyond_the_screen_widens_it() -> None:
    data = bytearray(gif_of_frames(1))
    at = data.index(b"\x2c", 19)
    data[at + 1 : at + 9] = b"\xff\xff\xff\xff\xff\xff\xff\xff"
    header = read_header(Format.GIF, bytes(data), 600)
    assert header is not None
    assert (header.width, header.height) == (131_070, 131_070)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(WALKED), st.booleans(), st.data())
def test_damage_is_a_header_or_a_refusal(kind: Format, moving: bool, data: st.DataObject) -> None:
    file = bytearray(FILES[kind][moving])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(8, min(len(file) - 1, 400)))
        file[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(file)))
    damaged = bytes(file[:cut]) if data.draw(st.booleans()) else bytes(file)
    with contextlib.suppress(ImageRejectedError):
        header = read_header(kind, damaged, 600)
        assert header is not None
        assert header.frames >= 1


@given(st.binary(max_size=64))
def test_sniffing_takes_any_bytes(data: bytes) -> None:
    kind = sniff(data)
    assert kind is None or kind in Format
