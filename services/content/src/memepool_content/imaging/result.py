"""What an image process hands back. It stands alone so that the service never loads a decoder."""

from dataclasses import dataclass

from memepool_content.domain.meme import Variant


@dataclass(frozen=True, slots=True)
class Written:
    """Renditions, and the file of each, in the same order."""

    variants: tuple[Variant, ...]
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Processed:
    """What became of an upload.

    `pdq` are the hashes of the eight forms of the image, of an animation's poster.
    """

    frames: int
    quality: float
    pixel_sha256: str
    pdq: tuple[str, ...]
    pdq_quality: int
    written: Written

    @property
    def full(self) -> Variant:
        """The rendition of full size."""
        return next(variant for variant in self.written.variants if variant.name == "full")
