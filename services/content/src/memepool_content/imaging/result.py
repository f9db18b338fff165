"""What an image process hands back. It stands alone so that the service never loads a decoder."""

from dataclasses import dataclass

from memepool_content.domain.meme import Variant


@dataclass(frozen=True, slots=True)
class Processed:
    """What became of an upload; `files` holds each variant's file by its name.

    `pdq` are the hashes of the eight forms of the image, of an animation's poster.
    """

    frames: int
    quality: float
    pixel_sha256: str
    pdq: tuple[str, ...]
    pdq_quality: int
    variants: tuple[Variant, ...]
    files: dict[str, str]
