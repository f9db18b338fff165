"""What is shown of memes, for all who ask in the same moment. A removal ends it within `LIFE_S`."""

from collections.abc import AsyncIterator
from uuid import UUID

from memepool_common.db import Database
from memepool_content.adapters.hot_cache import HotCache
from memepool_content.adapters.media_store import MediaStore, media_key
from memepool_content.domain.errors import NotFoundError, RemovedError
from memepool_content.domain.meme import Variant
from memepool_content.store import renditions

LIFE_S = 1.0
SHOWN_MAX = 10_000
HOT_BYTES_MAX = 64 * 1024 * 1024
HOT_OBJECT_BYTES_MAX = 256 * 1024
"""Larger objects are read piece by piece, each time."""

_Asked = tuple[UUID, str, int | None]
_Object = tuple[UUID, str, int]


class Media:
    """The way from an address to bytes."""

    def __init__(self, database: Database, store: MediaStore) -> None:
        self._database = database
        self._store = store
        self._shown: HotCache[_Asked, tuple[Variant, ...]] = HotCache(
            self._find, lambda _: 1, lifetime_s=LIFE_S, weight_max=SHOWN_MAX
        )
        self._bytes: HotCache[_Object, bytes] = HotCache(
            self._read, len, lifetime_s=LIFE_S, weight_max=HOT_BYTES_MAX
        )

    async def renditions(
        self, content_id: UUID, name: str, version: int | None
    ) -> tuple[Variant, ...]:
        """A variant of a version, the newest if None, in all formats; the original first.

        Raises:
            NotFoundError, RemovedError
        """
        return await self._shown.get((content_id, name, version))

    def renditions_at_hand(
        self, content_id: UUID, name: str, version: int | None
    ) -> tuple[Variant, ...] | None:
        """The same, if it was asked for a moment ago."""
        return self._shown.peek((content_id, name, version))

    def bytes_at_hand(self, content_id: UUID, found: Variant) -> bytes | None:
        """All bytes, if they were asked for a moment ago."""
        return self._bytes.peek((content_id, found.sha256, found.size_bytes))

    async def open(
        self, content_id: UUID, found: Variant, start: int, end: int
    ) -> AsyncIterator[bytes]:
        """The bytes from `start` up to and without `end`, in pieces.

        Raises:
            RemovedError: the meme has just been removed.
        """
        try:
            if found.size_bytes <= HOT_OBJECT_BYTES_MAX:
                whole = await self._bytes.get((content_id, found.sha256, found.size_bytes))
                return _only(whole if end - start == len(whole) else whole[start:end])
            return await self._store.open(media_key(content_id, found.sha256), start, end)
        except FileNotFoundError:
            raise RemovedError("This meme was removed.") from None

    async def _find(self, asked: _Asked) -> tuple[Variant, ...]:
        content_id, name, version = asked
        async with self._database.read() as session:
            shown = await renditions.shown(session, content_id, name, version)
        if shown is None:
            raise NotFoundError(f"There is no meme {content_id}.")
        if shown.removed:
            raise RemovedError("This meme was removed.")
        if not shown.renditions:
            raise NotFoundError("There is no such image of this meme.")
        return shown.renditions

    async def _read(self, wanted: _Object) -> bytes:
        content_id, sha256, size_bytes = wanted
        pieces = await self._store.open(media_key(content_id, sha256), 0, size_bytes)
        return b"".join([piece async for piece in pieces])


async def _only(piece: bytes) -> AsyncIterator[bytes]:
    yield piece
