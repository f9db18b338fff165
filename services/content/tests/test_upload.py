"""POST /content/upload: what is taken, what is refused, and that a refusal leaves nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from memepool_common.events.bus import Message
from memepool_common.ids import uuid7
from memepool_common.testing import until
from memepool_common.tokens import Principal
from memepool_content.adapters.scratch import scratch_folder
from memepool_content.api import multipart
from memepool_content.settings import UploadSettings
from memepool_content.worker import topology
from memepool_sandbox.inprocess_bus import InProcessBus
from services.content.tests.harness import ContentService, Serve, problem
from services.content.tests.pictures import SVG, encoded, meme

BOUNDARY = "boundary"


def body(*parts: tuple[str, bytes], end: bool = True) -> bytes:
    """A multipart body of (disposition parameters, data)."""
    pieces = [
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {parameters}\r\n\r\n".encode()
        + data
        + b"\r\n"
        for parameters, data in parts
    ]
    return b"".join(pieces) + (f"--{BOUNDARY}--\r\n".encode() if end else b"")


async def send(
    content: ContentService,
    data: Any,
    content_type: str = f"multipart/form-data; boundary={BOUNDARY}",
) -> httpx.Response:
    headers = {"Content-Type": content_type}
    return await content.call(
        "POST", "/content/upload", content.creator, content=data, headers=headers
    )


async def nothing_left(content: ContentService) -> None:
    assert await content.count("content") == 0
    assert await content.count("processing_job") == 0
    assert await content.count("image_hash") == 0


async def test_is_answered_in_processing_with_all_fields(content: ContentService) -> None:
    answer = await content.upload(
        filename="My cat.JPG", description=" two\nlines ", tags=["#Cat, dog", "cat"]
    )
    assert answer.status_code == 202
    found = answer.json()
    assert answer.headers["Location"] == f"/content/{found['id']}"
    assert found == {
        "id": found["id"],
        "creatorId": str(content.creator.user_id),
        "title": "My cat",
        "description": "two\nlines",
        "tags": ["cat", "dog"],
        "status": "processing",
        "mimeType": None,
        "width": None,
        "height": None,
        "frames": None,
        "sizeBytes": None,
        "sha256": None,
        "version": 1,
        "quality": None,
        "variants": [],
        "transformation": None,
        "rejection": None,
        "createdAt": found["createdAt"],
        "updatedAt": found["createdAt"],
    }
    assert len(content.stored("uploads")) == 1
    assert (await content.get(f"/content/{found['id']}", content.creator)).json() == found


async def test_needs_a_creator(content: ContentService) -> None:
    problem(await content.call("POST", "/content/upload"), 401, "token_required")
    viewer = content.issuer.principal("viewer")
    problem(await content.upload(caller=viewer), 403, "role_required")
    await nothing_left(content)


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ("{", "/transform"),
        ("[]", "/transform"),
        ("{}", "/transform/prompt"),
        ('{"prompt": "x", "strength": 2}', "/transform/strength"),
        ('{"prompt": "x", "kind": "video"}', "/transform/kind"),
        ('{"prompt": "\\u0000"}', "/transform/prompt"),
    ],
)
async def test_a_malformed_transform_is_refused(
    content: ContentService, text: str, pointer: str
) -> None:
    refused = problem(await content.upload(transform=text), 422, "invalid_request")
    assert refused["errors"][0]["pointer"] == pointer
    await nothing_left(content)
    assert content.stored() == []


@pytest.mark.parametrize(
    "data", [SVG, b"MZ\x90\x00" + bytes(100), b"%PDF-1.7", b"\x00\x00\x00\x18ftypmp42" + bytes(50)]
)
async def test_what_is_no_image_is_refused_with_a_list(
    content: ContentService, data: bytes
) -> None:
    refused = problem(await content.upload(data, filename="a.png"), 415, "unsupported_format")
    for name in ("JPEG", "PNG", "WebP", "GIF", "AVIF", "SVG"):
        assert name in refused["detail"]
    await nothing_left(content)
    assert content.stored() == []


@pytest.mark.parametrize(
    ("data", "content_type", "status", "code"),
    [
        (b"{}", "application/json", 415, "multipart_required"),
        (b"x", "", 415, "multipart_required"),
        (b"x", "multipart/form-data", 400, "malformed_multipart"),
        (b"x", f"multipart/form-data; boundary={'b' * 300}", 400, "malformed_multipart"),
        (b"nonsense", None, 400, "malformed_multipart"),
        (b"", None, 400, "malformed_multipart"),
        (body(('name="file"', b"abc"), end=False), None, 400, "malformed_multipart"),
        (body(('filename="a"', b"abc")), None, 400, "malformed_multipart"),
        (body(*[('name="x"', b"1")] * 40), None, 400, "malformed_multipart"),
        (body(('name="title"', b"abc")), None, 422, "invalid_request"),
        (body(('name="file"; filename="a"', b"")), None, 422, "empty_file"),
        (body(*[('name="file"; filename="a"', b"abc")] * 2), None, 422, "invalid_request"),
        (body(('name="title"', b"\xff\xfe")), None, 422, "invalid_request"),
        (body(('name="title"', b"a\x00b")), None, 422, "invalid_request"),
        (body(('name="title"', b"a" * 20_000)), None, 422, "invalid_request"),
        (body(('name="title"', b"a"), ('name="title"', b"b")), None, 422, "invalid_request"),
    ],
)
async def test_malformed_bodies(
    content: ContentService, data: bytes, content_type: str | None, status: int, code: str
) -> None:
    more = {} if content_type is None else {"content_type": content_type}
    problem(await send(content, data, **more), status, code)
    await nothing_left(content)
    assert content.stored() == []


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"title": "t" * 201}, "/title"),
        ({"description": "d" * 2001}, "/description"),
        ({"tags": "a b"}, "/tags"),
        ({"tags": "x" * 33}, "/tags"),
        ({"tags": ",".join(f"t{number}" for number in range(11))}, "/tags"),
    ],
)
async def test_metadata_rules(
    content: ContentService, fields: dict[str, Any], pointer: str
) -> None:
    refused = problem(await content.upload(**fields), 422, "invalid_metadata")
    assert refused["errors"][0]["pointer"] == pointer
    await nothing_left(content)


async def test_the_cap_is_enforced_on_the_way(serve: Serve) -> None:
    async with serve(uploads=UploadSettings(file_bytes_max=100_000)) as content:
        problem(await content.upload(bytes(100_001)), 413, "file_too_large")
        with contextlib.suppress(httpx.TransportError):  # closed before it was all sent
            problem(await content.upload(bytes(500_000)), 413, "body_too_large")

        sent = 0

        async def endless() -> Any:
            nonlocal sent
            yield body(('name="file"; filename="a"', b"\xff\xd8\xff"), end=False)[:-2]
            for _ in range(100_000):
                sent += 4096
                yield bytes(4096)

        with contextlib.suppress(httpx.TransportError):
            problem(await send(content, endless()), 413, "body_too_large")
        assert sent < 50_000_000
        await nothing_left(content)
        assert content.stored() == []


async def test_a_full_disk_is_no_error_of_ours_and_leaves_nothing(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def full(parent: Path | None) -> Iterator[Path]:
        with scratch_folder(parent) as folder:
            (folder / "upload").symlink_to("/dev/full")
            yield folder

    temporary = tmp_path / "temporary"
    temporary.mkdir()
    async with serve(uploads=UploadSettings(temporary_folder=temporary)) as content:
        with monkeypatch.context() as while_full:
            while_full.setattr(multipart, "scratch_folder", full)
            for data in (encoded(meme()), b"\xff\xd8\xff" + bytes(8_000_000)):
                answer = await content.upload(data, key="k")
                problem(answer, 503, "disk_unavailable")
                assert int(answer.headers["Retry-After"]) > 0
                assert list(temporary.iterdir()) == []
        await nothing_left(content)
        assert content.stored() == []
        assert (await content.upload(key="k")).status_code == 202


async def test_a_client_that_goes_away_leaves_nothing(content: ContentService) -> None:
    started = asyncio.Event()

    async def halting() -> Any:
        yield body(('name="file"; filename="a"', b"\xff\xd8\xff"), end=False)
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(send(content, halting()))
    await started.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await content.upload()).status_code == 202
    assert await content.count("content") == 1


async def test_a_slow_client_is_told_so(serve: Serve) -> None:
    async with (
        serve(uploads=UploadSettings(timeout_s=0.2)) as content,
        halted_upload(content, content.creator) as reader,
    ):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        assert b"upload_too_slow" in await reader.readuntil(b"}")


async def test_no_user_takes_all_the_streams(serve: Serve) -> None:
    limits = UploadSettings(concurrent_max=3, queued_per_user_max=2)
    async with serve(uploads=limits) as content, contextlib.AsyncExitStack() as halted:
        for _ in range(3):
            await halted.enter_async_context(halted_upload(content, content.creator))

        async def full() -> bool:
            return "being received" in (await content.upload()).text

        await until(full, step_s=0.1)
        assert (await content.upload(caller=content.issuer.principal("creator"))).status_code != 429


@contextlib.asynccontextmanager
async def halted_upload(
    content: ContentService, caller: Principal
) -> AsyncIterator[asyncio.StreamReader]:
    """The answer to an upload whose client sends its beginning and no more."""
    url = content.client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    headers = {
        "Host": "memes.test",
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        "Content-Length": "1000",
        **content.issuer.headers(caller),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    part = body(('name="file"; filename="a"', b"\xff\xd8\xff"), end=False)
    writer.write(f"POST /content/upload HTTP/1.1\r\n{head}\r\n".encode() + part)
    yield reader
    writer.close()


async def test_a_key_is_answered_once(content: ContentService) -> None:
    first = await content.upload(key="k1", title="one")
    again = await content.upload(key="k1", title="one")
    assert again.status_code == 202
    assert again.json() == first.json()
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotent-Replayed"] == "true"
    other = encoded(meme(2))
    problem(await content.upload(other, key="k1", title="one"), 422, "idempotency_key_reused")
    problem(await content.upload(key="k1", title="two"), 422, "idempotency_key_reused")
    assert await content.count("content") == 1


async def test_the_same_file_twice_is_a_duplicate(content: ContentService) -> None:
    first = (await content.upload()).json()
    mine = problem(await content.upload(filename="other.png"), 409, "duplicate_content")
    assert mine["contentId"] == first["id"]
    stranger = content.issuer.principal("creator")
    theirs = problem(await content.upload(caller=stranger), 409, "duplicate_content")
    assert theirs["contentId"] is None  # still hidden from others
    assert await content.count("content") == 1


async def test_quotas(serve: Serve) -> None:
    limits = UploadSettings(queued_per_user_max=2, queued_max=3, daily_max=2)
    async with serve(uploads=limits) as content:
        others = [content.issuer.principal("creator") for _ in range(2)]
        assert (await content.upload(encoded(meme(1)))).status_code == 202
        assert (await content.upload(encoded(meme(2)))).status_code == 202
        full = await content.upload(encoded(meme(3)))
        problem(full, 429, "upload_queue_full")
        assert int(full.headers["Retry-After"]) > 0
        # A key does not open a way around it.
        problem(await content.upload(encoded(meme(3)), key="k"), 429, "upload_queue_full")
        assert (await content.upload(encoded(meme(4)), caller=others[0])).status_code == 202
        problem(await content.upload(encoded(meme(5)), caller=others[1]), 429, "uploads_busy")
        await content.as_owner("delete from processing_job")
        problem(await content.upload(encoded(meme(6))), 429, "daily_quota_exceeded")
        assert await content.count("content") == 3


async def test_quotas_hold_for_uploads_at_the_same_time(serve: Serve) -> None:
    async with serve(uploads=UploadSettings(queued_per_user_max=2)) as content:
        answers = await asyncio.gather(
            *(content.upload(encoded(meme(seed))) for seed in range(1, 6))
        )
        assert sorted(answer.status_code for answer in answers) == [202, 202, 429, 429, 429]


async def test_a_failing_commit_is_an_error_and_leaves_nothing(serve: Serve) -> None:
    async with serve() as content:
        await content.as_owner("""
            create function refuse() returns trigger language plpgsql as
            $$ begin raise exception 'no commit today'; end $$;
            create constraint trigger refuse after insert on content
            deferrable initially deferred for each row execute function refuse();
        """)
        problem(await content.upload(key="k"), 500, "internal_error")
        await nothing_left(content)
        # The stored file is already due to go.
        assert len(content.stored("uploads")) == await content.count("erasure") == 1
        await content.as_owner("drop trigger refuse on content")
        assert (await content.upload(key="k")).status_code == 202


async def test_suspended_users_cannot_upload(working: ContentService) -> None:
    await deliver_user(working, suspended=True, version=3)
    await until(lambda: refused(working))
    await deliver_user(working, suspended=False, version=2)  # late: it changes nothing
    problem(await working.upload(), 403, "suspended")
    await deliver_user(working, suspended=False, version=4)
    await until(lambda: accepted(working))


async def deliver_user(content: ContentService, *, suspended: bool, version: int) -> None:
    user = str(content.creator.user_id)
    event_id = uuid7()
    headers = {
        "ce-specversion": "1.0",
        "ce-id": str(event_id),
        "ce-source": "/auth",
        "ce-type": "memepool.auth.user.updated.v1",
        "ce-subject": user,
        "ce-time": "2026-01-01T00:00:00Z",
        "ce-audience": user,
        "ce-aggregateversion": str(version),
    }
    payload = f'{{"id":"{user}","suspended":{str(suspended).lower()},"role":"creator"}}'.encode()
    bus = InProcessBus(content.database)
    await bus.declare(topology())
    key = "auth.user.updated.v1"
    assert await bus.publish([Message(event_id, key, headers, payload)]) == [None]


async def refused(content: ContentService) -> bool:
    return (await content.upload(b"not an image")).status_code == 403


async def accepted(content: ContentService) -> bool:
    return (await content.upload()).status_code == 202
