"""The object store: write-once objects under keys, in a local folder or any S3-compatible store."""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from memepool_common.ids import uuid7
from memepool_content.settings import S3Settings, StoreSettings

if TYPE_CHECKING:
    from obstore.store import S3Config

CHUNK_BYTES = 256 * 1024
PUTS_AT_ONCE_MAX = 4
"""An object that may not replace another one is sent in one piece, out of memory."""
RETRIES_MAX = 3
BACKOFF_S, BACKOFF_S_MAX = 0.1, 2.0
UPLOADS, MEDIA = "uploads", "media"
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_OURS = re.compile(f"{UPLOADS}/{_UUID}|{MEDIA}/{_UUID}/[0-9a-f]{{64}}")


def new_upload_key() -> str:
    """Where a file waits to be processed."""
    return f"{UPLOADS}/{uuid7()}"


def media_key(content_id: UUID, sha256: str) -> str:
    """Where a rendition lies: by its own hash, under its meme, so that it goes with it."""
    return f"{MEDIA}/{content_id}/{sha256}"


def is_ours(key: str) -> bool:
    """Whether it is named as the two above name things."""
    return _OURS.fullmatch(key) is not None


def owner_of(key: str) -> UUID | None:
    """The meme of a rendition's key; None for an upload's."""
    return UUID(key.split("/")[1]) if key.startswith(MEDIA) else None


class StoreUnavailableError(ConnectionError):
    """The store does not answer, or not in time; tried again, it may."""

    code = "store_unavailable"
    headers = {"Retry-After": "5"}  # noqa: RUF012 - nobody changes it


class MediaStore:
    """Durable bytes under keys. All methods raise StoreUnavailableError; a missing object is a
    FileNotFoundError."""

    def __init__(self, settings: StoreSettings) -> None:
        self._folder = settings.folder
        self._store: ObjectStore
        if settings.s3 is not None:
            self._store = _s3(settings.s3)
        else:
            assert settings.folder is not None  # noqa: S101 - the settings demand one of the two
            settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._store = LocalStore(settings.folder, automatic_cleanup=True)
        self._puts = asyncio.Semaphore(PUTS_AT_ONCE_MAX)

    async def put(self, key: str, source: Path) -> None:
        """Store a file whole or not at all. A key that exists keeps its bytes."""
        async with self._puts:
            with _outages(), contextlib.suppress(AlreadyExistsError):
                await obstore.put_async(self._store, key, source, mode="create")
            if self._folder is not None:
                await asyncio.to_thread(_sync, self._folder / key)

    async def fetch(self, key: str, target: Path) -> None:
        """Copy an object to a local file."""
        with _outages():
            found = await obstore.get_async(self._store, key)
            with target.open("xb") as file:
                async for piece in found.stream(CHUNK_BYTES):
                    file.write(piece)

    async def open(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to and without `end`, in pieces."""
        with _outages():
            found = await obstore.get_async(self._store, key, options={"range": (start, end)})
        return _pieces(found)

    async def delete(self, keys: Sequence[str]) -> None:
        """Make the objects gone, those that are not there included."""
        for key in keys:
            with _outages(), contextlib.suppress(FileNotFoundError):
                await obstore.delete_async(self._store, key)

    async def older(self, folder: str, before: datetime) -> AsyncIterator[list[str]]:
        """The keys in `folder` whose objects were stored before that, in pages."""
        with _outages():
            async for page in obstore.list(self._store, folder):
                yield [found["path"] for found in page if found["last_modified"] < before]


def _s3(settings: S3Settings) -> S3Store:
    config: S3Config = {
        "region": settings.region,
        "access_key_id": settings.access_key_id.get_secret_value(),
        "secret_access_key": settings.secret_access_key.get_secret_value(),
        "virtual_hosted_style_request": settings.virtual_hosted,
        "conditional_put": "etag",
    }
    if settings.endpoint is not None:
        config["endpoint"] = settings.endpoint
    if settings.encryption is not None:
        config["server_side_encryption"] = settings.encryption
    if settings.kms_key_id is not None:
        config["sse_kms_key_id"] = settings.kms_key_id
    return S3Store(
        settings.bucket,
        prefix=settings.prefix or None,
        config=config,
        client_options={
            "connect_timeout": timedelta(seconds=settings.connect_timeout_s),
            "timeout": timedelta(seconds=settings.timeout_s),
            "allow_http": settings.endpoint is not None and settings.endpoint.startswith("http:"),
        },
        retry_config={
            "max_retries": RETRIES_MAX,
            "retry_timeout": timedelta(seconds=settings.timeout_s),
            "backoff": {
                "init_backoff": timedelta(seconds=BACKOFF_S),
                "max_backoff": timedelta(seconds=BACKOFF_S_MAX),
                "base": 2,
            },
        },
    )


def _sync(path: Path) -> None:
    """A file, and its entry in its folder, survive a power cut from now on."""
    for place in (path, path.parent):
        with contextlib.suppress(FileNotFoundError):  # just erased
            descriptor = os.open(place, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def _outages() -> Iterator[None]:
    try:
        yield
    except AlreadyExistsError:
        raise
    except BaseError as error:
        raise StoreUnavailableError("The store of images does not answer.") from error


async def _pieces(found: "obstore.GetResult") -> AsyncIterator[bytes]:
    with _outages():
        async for piece in found.stream(CHUNK_BYTES):
            yield bytes(piece)
