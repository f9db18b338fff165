"""The object store: one suite for a local folder and for S3, which moto's server speaks."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from moto.server import ThreadedMotoServer
from pydantic import SecretStr, ValidationError

from memepool_common.testing import until
from memepool_content.adapters.media_store import (
    MediaStore,
    StoreUnavailableError,
    media_key,
    new_upload_key,
)
from memepool_content.settings import S3Settings, StoreSettings
from services.content.tests.harness import TIMEOUT_S, Serve

KEYS = {"aws_access_key_id": "id", "aws_secret_access_key": "secret"}


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def s3_settings(endpoint: str, bucket: str, **values: object) -> S3Settings:
    usual: dict[str, object] = {
        "bucket": bucket,
        "endpoint": endpoint,
        "access_key_id": SecretStr("id"),
        "secret_access_key": SecretStr("secret"),
    }
    return S3Settings.model_validate({**usual, **values})


def client_of(endpoint: str) -> Any:
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **KEYS)


def new_bucket(endpoint: str) -> str:
    bucket = f"memes-{uuid4()}"
    client_of(endpoint).create_bucket(Bucket=bucket)
    return bucket


@pytest.fixture(params=["folder", "s3", "s3 with prefix"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MediaStore]:
    if request.param == "folder":
        yield MediaStore(StoreSettings(folder=tmp_path / "store"))
        return
    endpoint = request.getfixturevalue("s3_endpoint")
    prefix = "some/where" if "prefix" in request.param else ""
    settings = s3_settings(endpoint, await asyncio.to_thread(new_bucket, endpoint), prefix=prefix)
    yield MediaStore(StoreSettings(s3=settings))


def file_of(folder: Path, data: bytes) -> Path:
    path = folder / f"file-{uuid4()}"
    path.write_bytes(data)
    return path


async def read(store: MediaStore, key: str, start: int, end: int) -> bytes:
    return b"".join([piece async for piece in await store.open(key, start, end)])


async def keys(store: MediaStore, folder: str, before: datetime) -> set[str]:
    return {key async for page in store.older(folder, before) for key in page}


async def test_what_is_put_is_read_back(store: MediaStore, tmp_path: Path) -> None:
    data = os.urandom(700_000)
    key = media_key(uuid4(), hashlib.sha256(data).hexdigest())
    await store.put(key, file_of(tmp_path, data))
    assert await read(store, key, 0, len(data)) == data
    assert await read(store, key, 5, 6) == data[5:6]
    assert await read(store, key, 300_000, len(data)) == data[300_000:]
    pieces = [len(piece) async for piece in await store.open(key, 0, len(data))]
    assert max(pieces) <= 512 * 1024
    target = tmp_path / "copy"
    await store.fetch(key, target)
    assert target.read_bytes() == data


async def test_what_is_written_stays_as_it_is(store: MediaStore, tmp_path: Path) -> None:
    key = new_upload_key()
    await store.put(key, file_of(tmp_path, b"first"))
    await store.put(key, file_of(tmp_path, b"second"))
    others = [store.put(key, file_of(tmp_path, b"%d" % number)) for number in range(8)]
    await asyncio.gather(*others)
    assert await read(store, key, 0, 5) == b"first"


async def test_what_is_deleted_is_gone(store: MediaStore, tmp_path: Path) -> None:
    one, other, never = (new_upload_key() for _ in range(3))
    for key in (one, other):
        await store.put(key, file_of(tmp_path, b"x"))
    await store.delete([never, one])
    await store.delete([one])
    assert await read(store, other, 0, 1) == b"x"
    with pytest.raises(FileNotFoundError):
        await store.open(one, 0, 1)
    with pytest.raises(FileNotFoundError):
        await store.fetch(one, tmp_path / "nothing")


async def test_it_tells_what_is_old(store: MediaStore, tmp_path: Path) -> None:
    upload, meme = new_upload_key(), media_key(uuid4(), "a" * 64)
    for key in (upload, meme):
        await store.put(key, file_of(tmp_path, b"x"))
    later, earlier = (datetime.now(UTC) + timedelta(hours=sign) for sign in (1, -1))
    assert await keys(store, "uploads", later) == {upload}
    assert await keys(store, "media", later) == {meme}
    assert await keys(store, "media", earlier) == set()


async def test_neighbours_come_and_go_at_the_same_time(store: MediaStore, tmp_path: Path) -> None:
    meme = uuid4()

    async def life(number: int) -> None:
        key = media_key(meme, f"{number:064d}")
        await store.put(key, file_of(tmp_path, b"x"))
        assert await read(store, key, 0, 1) == b"x"
        await store.delete([key])

    await asyncio.gather(*(life(number) for number in range(30)))
    assert await keys(store, "media", datetime.now(UTC) + timedelta(hours=1)) == set()


async def test_a_store_that_is_away(tmp_path: Path) -> None:
    settings = s3_settings("http://127.0.0.1:1", "bucket", timeout_s=0.5, connect_timeout_s=0.2)
    store = MediaStore(StoreSettings(s3=settings))
    with pytest.raises(StoreUnavailableError):
        await store.put("uploads/x", file_of(tmp_path, b"x"))
    with pytest.raises(StoreUnavailableError):
        await store.open("uploads/x", 0, 1)
    with pytest.raises(StoreUnavailableError):
        await store.delete(["uploads/x"])


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ({}, None),
        ({"encryption": "AES256"}, "AES256"),
        ({"encryption": "aws:kms", "kms_key_id": "our-key"}, "aws:kms"),
    ],
)
async def test_the_store_is_told_to_encrypt(
    s3_endpoint: str, tmp_path: Path, values: dict[str, object], seen: str | None
) -> None:
    bucket = await asyncio.to_thread(new_bucket, s3_endpoint)
    store = MediaStore(StoreSettings(s3=s3_settings(s3_endpoint, bucket, **values)))
    await store.put("uploads/x", file_of(tmp_path, b"x"))
    found = await asyncio.to_thread(
        client_of(s3_endpoint).head_object, Bucket=bucket, Key="uploads/x"
    )
    assert found.get("ServerSideEncryption") == seen
    assert found.get("SSEKMSKeyId") == values.get("kms_key_id")


async def test_a_life_on_s3(s3_endpoint: str, serve: Serve) -> None:
    bucket = await asyncio.to_thread(new_bucket, s3_endpoint)
    s3 = client_of(s3_endpoint)

    async def stored() -> int:
        found = await asyncio.to_thread(s3.list_objects_v2, Bucket=bucket)
        return int(found["KeyCount"])

    async def empty() -> bool:
        return await stored() == 0

    settings = StoreSettings(s3=s3_settings(s3_endpoint, bucket))
    async with serve(store=settings) as content, content.working():
        found = await content.processed()
        await until(content.in_all_formats, TIMEOUT_S)
        path = f"/content/{found['id']}"
        full = await content.get(f"{path}/media/full")
        assert len(full.content) == found["sizeBytes"]
        part = await content.get(f"{path}/media/full", headers={"Range": "bytes=5-9"})
        assert part.content == full.content[5:10]
        assert await stored() > 2
        assert (await content.call("DELETE", path, content.creator)).status_code == 204
        await until(empty, TIMEOUT_S)


def test_a_folder_or_a_bucket() -> None:
    with pytest.raises(ValidationError, match="either"):
        StoreSettings()
    with pytest.raises(ValidationError, match="either"):
        StoreSettings(folder=Path("x"), s3=s3_settings("http://127.0.0.1:1", "b"))
