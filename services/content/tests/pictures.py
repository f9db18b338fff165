"""Pictures for tests, made on the spot: real ones and hostile ones."""

import io
import struct
import zlib
from typing import Any

from PIL import Image, ImageDraw

MIME_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "AVIF": "image/avif",
}


def meme(seed: int = 1, size: tuple[int, int] = (320, 240), mode: str = "RGB") -> Image.Image:
    """A picture with gradients, edges and text; another seed gives another picture."""
    image = Image.linear_gradient("L").resize(size).convert(mode)
    draw = ImageDraw.Draw(image)
    for step in range(12):
        x, y = (seed * 37 + step * 53) % size[0], (seed * 61 + step * 29) % size[1]
        colour = ((seed * 71 + step * 40) % 256, (step * 90) % 256, (seed * 13) % 256)
        draw.rectangle((x, y, x + size[0] // 8, y + size[1] // 8), fill=colour)
    draw.text((size[0] // 10, size[1] // 3), f"MEME {seed}", fill="white", font_size=size[1] // 4)
    return image


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def animation(kind: str, *, count: int = 5, duration_ms: int = 100) -> bytes:
    """An animated picture of `count` different frames; another count begins with another one."""
    first, *others = [meme(seed, (320, 240)) for seed in range(count, 2 * count)]
    return encoded(first, kind, save_all=True, append_images=others, duration=duration_ms, loop=0)


def opened(data: bytes) -> Image.Image:
    """The picture that a file holds."""
    return Image.open(io.BytesIO(data))


def photograph_with_position(orientation: int = 6) -> bytes:
    """A JPEG lying on its side, with a GPS position, a comment, and a secret in its EXIF."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "secret-description"
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 0.0), 3: "E", 4: (13.0, 24.0, 0.0)}
    return encoded(meme(7), "JPEG", exif=exif, comment=b"secret-comment")


def polyglot() -> bytes:
    """A JPEG that is a script and an archive as well."""
    return encoded(meme(8)) + b"<script>alert('polyglot')</script>PK\x03\x04" + bytes(2_000)


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims a huge canvas."""
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    body = zlib.compress(bytes(1_000))
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(*chunk) for chunk in chunks)


def _png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def webp_bomb() -> bytes:
    """A WebP whose canvas of 16,383 pixels a side is allocated by a decoder that opens it."""
    side = (16_382).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", 10) + b"\x02\x00\x00\x00" + side + side
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def jpeg_claiming(width: int, height: int) -> bytes:
    """A JPEG whose header claims another size than it has."""
    data = bytearray(encoded(meme()))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def avif_claiming(width: int, height: int) -> bytes:
    """An AVIF whose header claims another size than that of its frame."""
    data = bytearray(encoded(meme(), "AVIF"))
    at = data.index(b"ispe") + 8
    data[at : at + 8] = struct.pack(">II", width, height)
    return bytes(data)


def gif_of_frames(count: int) -> bytes:
    """A valid GIF of very many tiny frames on a 64-pixel screen."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0x80, 0, 0) + b"\x00\x00\x00\xff\xff\xff"
    frame = b"\x21\xf9\x04\x00\x02\x00\x00\x00" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0)
    return screen + (frame + b"\x02\x02\x44\x01\x00") * count + b"\x3b"


SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>x()</script></svg>'
