"""What counts as an image: signatures, and caps on what its header claims."""

from dataclasses import dataclass, replace
from enum import StrEnum

from memepool_content.domain.errors import ImageRejectedError

SIGNATURE_BYTES = 32
ACCEPTED = "JPEG, PNG, WebP, GIF and AVIF, still or animated"


class Format(StrEnum):
    """The formats that are accepted, by Pillow's names."""

    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WEBP"
    GIF = "GIF"
    AVIF = "AVIF"


def sniff(head: bytes) -> Format | None:
    """The format that the first `SIGNATURE_BYTES` of a file say, whatever its name is."""
    if head.startswith(b"\xff\xd8\xff"):
        return Format.JPEG
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Format.PNG
    if head.startswith((b"GIF87a", b"GIF89a")):
        return Format.GIF
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Format.WEBP
    if head[4:8] == b"ftyp" and any(
        head[at : at + 4] in (b"avif", b"avis") for at in (8, 16, 20, 24, 28)
    ):
        return Format.AVIF
    return None


def unsupported() -> str:
    """The refusal of everything else."""
    return f"The file is not an image that is accepted: {ACCEPTED}. (SVG and video are not.)"


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that an image may claim, checked before anything is decoded.

    Sides in pixels; `pixels_max` for one frame, for one of WebP or AVIF `webp_pixels_max`: these
    are served as WebP, whose codec needs more memory; `animation_pixels_max` for all frames
    together; `aspect_max` is the longer side over the shorter.
    """

    side_px_min: int = 32
    side_px_max: int = 8_192
    pixels_max: int = 16_777_216
    webp_pixels_max: int = 12_582_912
    frames_max: int = 600
    animation_pixels_max: int = 60_000_000
    duration_ms_max: int = 60_000
    aspect_max: int = 8

    def of(self, kind: Format) -> "Caps":
        """The caps of a format."""
        if kind not in (Format.WEBP, Format.AVIF):
            return self
        return replace(self, pixels_max=min(self.pixels_max, self.webp_pixels_max))


@dataclass(frozen=True, slots=True)
class Header:
    """What a file claims to hold. `duration_ms` is 0 for a still, and where the header is mute."""

    width: int
    height: int
    frames: int = 1
    duration_ms: int = 0


def check_caps(header: Header, caps: Caps) -> None:
    """Refuse what is too small, too large, too long or too thin.

    Raises:
        ImageRejectedError: `too_small`, `too_many_pixels`, `bad_aspect`, `too_many_frames` or
            `too_long`.
    """
    width, height = header.width, header.height
    short, long = sorted((width, height))
    size = f"{width} x {height} pixels"
    if short < caps.side_px_min:
        detail = f"{size}; each side needs at least {caps.side_px_min}."
        raise ImageRejectedError("too_small", detail)
    if long > caps.side_px_max or width * height > caps.pixels_max:
        raise too_many_pixels(caps, size)
    if long > short * caps.aspect_max:
        detail = f"{size}; the longer side may be at most {caps.aspect_max} times the shorter."
        raise ImageRejectedError("bad_aspect", detail)
    if header.frames > caps.frames_max:
        raise ImageRejectedError("too_many_frames", f"More than {caps.frames_max} frames.")
    if header.frames > 1 and width * height * header.frames > caps.animation_pixels_max:
        detail = f"{header.frames} frames of {size}; at most {caps.animation_pixels_max} in all."
        raise ImageRejectedError("too_many_pixels", detail)
    check_duration(header.duration_ms, caps)


def too_many_pixels(caps: Caps, size: str = "Far too large") -> ImageRejectedError:
    """The refusal of an image of that size."""
    detail = f"{size}; at most {caps.side_px_max} a side and {caps.pixels_max} in all."
    return ImageRejectedError("too_many_pixels", detail)


def check_duration(duration_ms: int, caps: Caps) -> None:
    """Refuse an animation that runs too long: ImageRejectedError `too_long`."""
    if duration_ms > caps.duration_ms_max:
        raise ImageRejectedError("too_long", f"The animation may run {caps.duration_ms_max} ms.")
