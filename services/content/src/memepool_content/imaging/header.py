"""Frames, sizes and durations from the structure of a file, without decoding any of it.

GIF, WebP and PNG are walked here: only a walk tells how many frames they hold and how long these
run, and Pillow allocates a WebP's whole canvas when it opens one. For JPEG and AVIF, opening a
file with Pillow reads no more than their header.
"""

import struct
from collections.abc import Iterator

from memepool_content.domain.errors import ImageRejectedError
from memepool_content.domain.image import Format, Header

GIF_DELAY_MS = 10
FIRST_CHUNK = 12
"""Where a WebP's chunks begin."""


def read_header(kind: Format, data: bytes, frames_max: int) -> Header | None:
    """What a file claims; None for JPEG and AVIF. Counting stops after `frames_max` + 1 frames.

    Raises:
        ImageRejectedError: `malformed_image`.
    """
    walk = {Format.GIF: _gif, Format.WEBP: _webp, Format.PNG: _png}.get(kind)
    if walk is None:
        return None
    try:
        return walk(data, frames_max)
    except (struct.error, IndexError) as error:
        raise malformed("it ends too early") from error


def malformed(reason: str) -> ImageRejectedError:
    """The refusal of a file that is not what its signature says."""
    return ImageRejectedError("malformed_image", f"The image is damaged: {reason}.")


def _gif(data: bytes, frames_max: int) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _gif_table_bytes(flags)
    frames = duration_ms = 0
    while at < len(data) and frames <= frames_max:
        block = data[at]
        if block == 0x3B:  # the trailer; what follows is not the image's
            break
        if block == 0x21:  # an extension
            if data[at + 1] == 0xF9:
                duration_ms += struct.unpack_from("<H", data, at + 4)[0] * GIF_DELAY_MS
            at = _after_gif_blocks(data, at + 2)
        elif block == 0x2C:  # a frame; it may reach beyond the screen and widens it
            x, y, w, h, flags = struct.unpack_from("<HHHHB", data, at + 1)
            width, height = max(width, x + w), max(height, y + h)
            frames += 1
            at = _after_gif_blocks(data, at + 11 + _gif_table_bytes(flags))
        elif block == 0x00:  # padding that some encoders leave
            at += 1
        else:
            raise malformed("it holds an unknown block")
    if frames == 0:
        raise malformed("it holds no frame")
    return Header(width, height, frames, duration_ms if frames > 1 else 0)


def _gif_table_bytes(flags: int) -> int:
    return 3 << ((flags & 0x07) + 1) if flags & 0x80 else 0


def _after_gif_blocks(data: bytes, at: int) -> int:
    while size := data[at]:
        at += size + 1
    return at + 1


def _webp(data: bytes, frames_max: int) -> Header:
    (riff_bytes,) = struct.unpack_from("<I", data, 4)
    if riff_bytes + 8 > len(data):
        raise malformed("it ends too early")
    width = height = frames = duration_ms = 0
    for name, start, size in _riff_chunks(data, FIRST_CHUNK, riff_bytes + 8):
        if name == b"VP8X" and start == FIRST_CHUNK + 8:  # elsewhere decoders pass it over
            width, height = _uint24(data, start + 4) + 1, _uint24(data, start + 7) + 1
        elif name == b"ANMF":
            frames += 1
            duration_ms += _uint24(data, start + 12)
        elif name == b"VP8 " and not width:
            if size < 10 or data[start + 3 : start + 6] != b"\x9d\x01\x2a":
                raise malformed("its frame has no start code")
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, start + 6))
        elif name == b"VP8L" and not width:
            (bits,) = struct.unpack_from("<I", data, start + 1)
            width, height = (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
        if frames > frames_max:
            break
    return Header(width, height, max(frames, 1), duration_ms)


def _riff_chunks(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while at + 8 <= end:
        (size,) = struct.unpack_from("<I", data, at + 4)
        if at + 8 + size > end:
            raise malformed("a chunk reaches beyond its end")
        yield bytes(data[at : at + 4]), at + 8, size
        at += 8 + size + (size & 1)


def _uint24(data: bytes, at: int) -> int:
    low, high = struct.unpack_from("<HB", data, at)
    return int(low | high << 16)


def _png(data: bytes, frames_max: int) -> Header:
    size, name, width, height = struct.unpack_from(">I4sII", data, 8)
    if name != b"IHDR" or size != 13:
        raise malformed("it does not begin with IHDR")
    at, claimed, frames, seconds = 8, 1, 0, 0.0
    while frames <= frames_max:
        size, name = struct.unpack_from(">I4s", data, at)
        if at + 12 + size > len(data):
            raise malformed("a chunk reaches beyond its end")
        if name == b"acTL":
            (claimed,) = struct.unpack_from(">I", data, at + 8)
        elif name == b"fcTL":
            frames += 1
            numerator, denominator = struct.unpack_from(">HH", data, at + 28)
            seconds += numerator / (denominator or 100)
        elif name == b"IEND":
            break
        at += 12 + size
    return Header(width, height, max(claimed, frames, 1), round(seconds * 1000))
