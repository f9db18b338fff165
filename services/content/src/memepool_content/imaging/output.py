"""The files that an image process leaves behind."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from memepool_content.domain.meme import Variant

Write = Callable[[io.BufferedWriter], None]


class Output:
    """Renditions written so far, with a file for each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.variants: list[Variant] = []
        self.files: list[str] = []

    def write(self, name: str, kind: str, size: tuple[int, int], write: Write) -> Variant:
        """Write a rendition in a format, by Pillow's name of it."""
        path = self._folder / f"{name}.{kind.lower()}"
        with _Whole(io.FileIO(path, "w")) as file:
            write(file)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        made = Variant(name, f"image/{kind.lower()}", *size, path.stat().st_size, digest)
        self.variants.append(made)
        self.files.append(str(path))
        return made

    def repeat(self, name: str, same: Variant) -> None:
        """A rendition whose bytes are those of another one."""
        self.variants.append(replace(same, name=name))
        self.files.append(self.files[self.variants.index(same)])

    def drop(self, made: Variant) -> None:
        """It is of no use."""
        at = self.variants.index(made)
        del self.variants[at], self.files[at]


class _Whole(io.BufferedWriter):
    """Hides its descriptor: Pillow would write a JPEG into that, and not notice when a disk that
    becomes full takes only its beginning."""

    def fileno(self) -> int:
        """There is none to be had."""
        raise io.UnsupportedOperation
