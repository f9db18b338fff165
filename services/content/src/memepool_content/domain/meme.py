"""A meme, its status, and what its owner may say of it."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from memepool_content.domain.errors import ForbiddenTransitionError, InvalidMetadataError
from memepool_content.domain.transformation import Transformation

TITLE_LENGTH_MAX = 200
DESCRIPTION_LENGTH_MAX = 2_000
TAGS_MAX = 10
TAG_LENGTH_MAX = 32
_TAG = re.compile(r"\w[\w-]*")
_REORDERING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


class Status(StrEnum):
    """Where a meme is in its life."""

    PROCESSING = "processing"
    READY = "ready"
    REJECTED = "rejected"
    TRANSFORMING = "transforming"
    REMOVED = "removed"


PUBLIC = frozenset({Status.READY, Status.TRANSFORMING})
"""What everybody may see."""

_NEXT = {
    Status.PROCESSING: {Status.READY, Status.REJECTED, Status.REMOVED},
    Status.READY: {Status.TRANSFORMING, Status.REMOVED},
    Status.TRANSFORMING: {Status.READY, Status.REMOVED},
    Status.REJECTED: {Status.REMOVED},
    Status.REMOVED: set(),
}


def check_transition(before: Status, after: Status) -> None:
    """Refuse a step that the life of a meme does not have: ForbiddenTransitionError."""
    if after not in _NEXT[before]:
        raise ForbiddenTransitionError(f"What is {before} cannot become {after}.")


@dataclass(frozen=True, slots=True)
class Variant:
    """One rendition of a version of the image; `sha256` is of its bytes."""

    name: str
    mime_type: str
    width: int
    height: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Meme:
    """A row of content. What the image says is None until it has been processed.

    `version` counts images; `revision` counts changes of any kind and orders events.
    `transformation` is the latest one: under way, failed, or the maker of this version.
    """

    id: UUID
    creator_id: UUID
    title: str | None
    description: str | None
    tags: tuple[str, ...]
    status: Status
    revision: int
    version: int
    mime_type: str | None
    width: int | None
    height: int | None
    frames: int | None
    size_bytes: int | None
    sha256: str | None
    quality: float | None
    rejection_code: str | None
    rejection_detail: str | None
    created_at: datetime
    updated_at: datetime
    transformation_id: UUID | None = None
    variants: tuple[Variant, ...] = ()
    transformation: Transformation | None = None


def clean_title(text: str | None) -> str | None:
    """A title on one line; None when nothing is left of it."""
    title = " ".join(_printable(text, keep="").split()) or None
    if title is not None and len(title) > TITLE_LENGTH_MAX:
        raise InvalidMetadataError("title", f"at most {TITLE_LENGTH_MAX} characters")
    return title


def title_of_file(filename: str | None) -> str | None:
    """A title from the name of a file, without folder and ending, cut to fit."""
    name = re.split(r"[/\\]", filename or "")[-1]
    stem, dot, _ = name.rpartition(".")
    return clean_title((stem if dot and stem else name)[:TITLE_LENGTH_MAX])


def clean_description(text: str | None) -> str | None:
    """A description that may run over lines; None when nothing is left of it."""
    description = _printable(text, keep="\n").strip() or None
    if description is not None and len(description) > DESCRIPTION_LENGTH_MAX:
        raise InvalidMetadataError("description", f"at most {DESCRIPTION_LENGTH_MAX} characters")
    return description


def tag_of(text: str) -> str:
    """A tag as it is kept and looked for."""
    return unicodedata.normalize("NFC", text.strip().removeprefix("#").casefold())


def clean_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags in lower case, without `#`, each once, in their order."""
    found: dict[str, None] = {}
    for given in tags:
        tag = tag_of(given)
        if not tag:
            continue
        if len(tag) > TAG_LENGTH_MAX or not _TAG.fullmatch(_without_marks(tag)):
            allowed = f"letters, digits, _ and -, at most {TAG_LENGTH_MAX} of them"
            raise InvalidMetadataError("tags", f"a tag is {allowed}")
        found[tag] = None
    if len(found) > TAGS_MAX:
        raise InvalidMetadataError("tags", f"at most {TAGS_MAX} tags")
    return tuple(found)


def _without_marks(text: str) -> str:
    """Vowel signs and accents, without which many scripts cannot be written, are no letters."""
    return "".join(each for each in text if not unicodedata.category(each).startswith("M"))


def _printable(text: str | None, *, keep: str) -> str:
    """Text without control characters and without those that reorder what a reader sees."""
    return "".join(
        character if character in keep or not _is_control(character) else " "
        for character in unicodedata.normalize("NFC", text or "").replace("\r\n", "\n")
    )


def _is_control(character: str) -> bool:
    if unicodedata.category(character) in ("Cc", "Cs"):
        return True
    return unicodedata.bidirectional(character) in _REORDERING
