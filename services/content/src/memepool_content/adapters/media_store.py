"""The object store: write-once objects under keys. Adapter: obstore over a local folder."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol
from uuid import UUID

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import LocalStore

from memepool_common.ids import uuid7

CHUNK_BYTES = 64 * 1024


def new_upload_key() -> str:
    """Where a file waits to be processed."""
    return f"uploads/{uuid7()}"


def media_key(content_id: UUID, sha256: str) -> str:
    """Where a rendition lies: by its own hash, under its meme, so that it goes with it."""
    return f"media/{content_id}/{sha256}"


class MediaStore(Protocol):
    """Durable bytes under keys. A missing object is a FileNotFoundError."""

    async def put(self, key: str, source: Path) -> None:
        """Store a file whole or not at all. A key that exists keeps its bytes."""
        ...

    async def fetch(self, key: str, target: Path) -> None:
        """Copy an object to a local file."""
        ...

    async def open(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to and without `end`, in pieces."""
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Make the objects gone, those that are not there included."""
        ...


class LocalMediaStore:
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._store = LocalStore(folder)

    async def put(self, key: str, source: Path) -> None:
        """Store a file whole or not at all. A key that exists keeps its bytes."""
        with contextlib.suppress(AlreadyExistsError):
            await obstore.put_async(self._store, key, source, mode="create")

    async def fetch(self, key: str, target: Path) -> None:
        """Copy an object to a local file."""
        found = await obstore.get_async(self._store, key)
        with target.open("xb") as file:
            async for piece in found.stream(CHUNK_BYTES):
                file.write(piece)

    async def open(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to and without `end`, in pieces."""
        found = await obstore.get_async(self._store, key, options={"range": (start, end)})
        return _pieces(found)

    async def delete(self, keys: Sequence[str]) -> None:
        """Make the objects gone, those that are not there included."""
        for key in keys:
            with contextlib.suppress(FileNotFoundError):
                await obstore.delete_async(self._store, key)


async def _pieces(found: "obstore.GetResult") -> AsyncIterator[bytes]:
    async for piece in found.stream(CHUNK_BYTES):
        yield bytes(piece)
