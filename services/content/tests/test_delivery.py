"""Reading, changing and removing memes, and the bytes themselves."""

import asyncio
from typing import Any

import pytest

from memepool_common.ids import uuid7
from memepool_common.testing import until
from services.content.tests.harness import ContentService, Serve, event_names, problem
from services.content.tests.pictures import encoded, meme

UNKNOWN = "0198f0a0-0000-7000-8000-000000000000"


async def test_the_bytes_and_their_headers(working: ContentService) -> None:
    found = await working.processed()
    path = f"/content/{found['id']}/media/full"
    plain = await working.get(path)
    assert plain.status_code == 200
    assert plain.headers["Cache-Control"] == "public, max-age=60"
    assert plain.headers["Content-Type"] == "image/jpeg"
    assert plain.headers["X-Content-Type-Options"] == "nosniff"
    assert plain.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert plain.headers["ETag"] == f'"{found["sha256"]}"'
    assert int(plain.headers["Content-Length"]) == len(plain.content) == found["sizeBytes"]

    (full,) = (item for item in found["variants"] if item["name"] == "full")
    assert full["url"] == f"{path}?v=1"
    pinned = await working.get(full["url"])
    assert pinned.content == plain.content
    assert pinned.headers["Cache-Control"] == "public, max-age=31536000, immutable"

    head = await working.call("HEAD", path)
    assert head.status_code == 200
    assert head.content == b""
    same = ("ETag", "Content-Length", "Content-Type", "Accept-Ranges", "Cache-Control")
    assert [head.headers[name] for name in same] == [plain.headers[name] for name in same]

    refused = await working.call("POST", path)
    problem(refused, 405, "method_not_allowed")
    assert refused.headers["Allow"] == "GET, HEAD"

    etag = plain.headers["ETag"]
    for condition in (etag, f'"other", W/{etag}', "*"):
        unchanged = await working.get(path, headers={"If-None-Match": condition})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert unchanged.headers["ETag"] == etag
    assert (await working.get(path, headers={"If-None-Match": '"other"'})).status_code == 200
    await ranges(working, path, plain.content, etag)
    await addresses_that_do_not_exist(working, path, found["id"])


async def ranges(working: ContentService, path: str, whole: bytes, etag: str) -> None:
    size = len(whole)
    for header, start, end in (
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, size),
        ("bytes=-50", size - 50, size),
        (f"bytes=10-{size * 2}", 10, size),
        (f"bytes=-{size * 2}", 0, size),
    ):
        part = await working.get(path, headers={"Range": header})
        assert part.status_code == 206, header
        assert part.content == whole[start:end]
        assert part.headers["Content-Range"] == f"bytes {start}-{end - 1}/{size}"
        assert part.headers["Content-Length"] == str(end - start)
    for header in ("bytes=0-1,5-6", "lines=1-2", "bytes=9-1", "bytes=-", "bytes=a-b", "bytes=٣-"):
        everything = await working.get(path, headers={"Range": header.encode()})
        assert (everything.status_code, everything.content) == (200, whole), header
    for header in (f"bytes={size}-", "bytes=-0"):
        outside = await working.get(path, headers={"Range": header})
        problem(outside, 416, "range_not_satisfiable")
        assert outside.headers["Content-Range"] == f"bytes */{size}"
    for condition, status in ((etag, 206), ('"other"', 200), (f"W/{etag}", 200)):
        answer = await working.get(path, headers={"Range": "bytes=0-9", "If-Range": condition})
        assert answer.status_code == status


async def addresses_that_do_not_exist(working: ContentService, path: str, own: str) -> None:
    problem(await working.get(f"{path}?v=2"), 404, "content_not_found")
    for version in ("0", "-1", "x", str(2**40)):
        problem(await working.get(f"{path}?v={version}"), 422, "invalid_request")
    problem(await working.get(f"/content/{own}/media/huge"), 422, "invalid_request")
    problem(await working.get(f"/content/{UNKNOWN}/media/full"), 404, "content_not_found")
    problem(await working.get("/content/nonsense/media/full"), 422, "invalid_request")


async def test_who_sees_what(content: ContentService) -> None:
    mine = (await content.upload(encoded(meme(1)))).json()["id"]
    stranger, admin = content.issuer.principal("creator"), content.issuer.principal("admin")
    path = f"/content/{mine}"
    assert (await content.get(path, content.creator)).status_code == 200
    assert (await content.get(path, admin)).status_code == 200
    for caller in (stranger, None):
        problem(await content.get(path, caller), 404, "content_not_found")
        hidden = await content.get(f"{path}/media/full", caller)
        problem(hidden, 404, "content_not_found")
        assert hidden.headers["Cache-Control"] == "no-store"  # it may be there soon
        assert (await content.get("/content", caller)).json()["items"] == []
    problem(await content.get(f"{path}/media/full", content.creator), 404, "content_not_found")
    for method, body in (("PUT", {"title": "x"}), ("DELETE", None)):
        problem(await content.call(method, path, stranger, json=body), 404, "content_not_found")
        problem(await content.call(method, path, json=body), 401, "token_required")
    problem(await content.get(path, headers={"Authorization": "Basic x"}), 401, "token_invalid")

    async with content.working():
        await content.settled(mine)
    assert (await content.get(path)).json()["status"] == "ready"
    problem(await content.call("DELETE", path, stranger), 403, "not_owner")
    problem(await content.call("PUT", path, stranger, json={"title": "x"}), 403, "not_owner")
    problem(await content.call("PUT", path, admin, json={"title": "x"}), 403, "not_owner")


async def test_lists_are_filtered_and_paged(working: ContentService) -> None:
    other = working.issuer.principal("creator")
    ids = [
        (await working.processed(encoded(meme(seed)), tags=tags))["id"]
        for seed, tags in ((1, "cat"), (2, "Dog"), (3, "cat,dog,caf\u00e9"))
    ]
    theirs = (await working.processed(encoded(meme(4)), caller=other, tags="cat"))["id"]
    bad = (await working.processed(encoded(meme(5))[:3_000]))["id"]

    async def listed(query: str, caller: Any = None) -> list[str]:
        answer = await working.get(f"/content?{query}", caller)
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]]

    assert await listed("") == [theirs, *reversed(ids)]
    assert await listed("", working.creator) == [bad, theirs, *reversed(ids)]
    assert await listed("", other) == [theirs, *reversed(ids)]
    assert await listed("status=rejected", working.creator) == [bad]
    assert await listed("status=rejected", other) == []
    assert await listed("status=rejected", working.issuer.principal("admin")) == [bad]
    assert await listed(f"creatorId={other.user_id}") == [theirs]
    assert await listed(f"creatorId={uuid7()}") == []
    assert await listed("tag=DOG") == [ids[2], ids[1]]
    assert await listed("tag=cafe%CC%81") == [ids[2]]  # as other keyboards write it
    assert await listed(f"tag=cat&creatorId={working.creator.user_id}") == [ids[2], ids[0]]

    first = (await working.get("/content?limit=2")).json()
    second = (await working.get(f"/content?limit=2&cursor={first['nextCursor']}")).json()
    assert second["nextCursor"] is None
    pages = [[item["id"] for item in page["items"]] for page in (first, second)]
    assert pages == [[theirs, ids[2]], [ids[1], ids[0]]]
    for query in (
        *("limit=0", "limit=101", "limit=x", "cursor=x", "cursor=WzFd", "status=removed"),
        *("creatorId=x", "tag=%00", f"tag={'t' * 65}"),
    ):
        assert (await working.get(f"/content?{query}")).status_code == 422, query


async def test_changes_by_the_owner(working: ContentService) -> None:
    found = await working.processed(title="old", description="text", tags="a")
    path, me = f"/content/{found['id']}", working.creator

    async def put(body: Any) -> dict[str, Any]:
        answer = await working.call("PUT", path, me, json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    changed = await put({"title": " new  title ", "unknown": 1})
    assert (changed["title"], changed["description"], changed["tags"]) == (
        "new title",
        "text",
        ["a"],
    )
    assert changed["updatedAt"] > found["updatedAt"]
    assert changed["version"] == found["version"]
    changed = await put({"description": None, "tags": ["B", "#b", "c"]})
    assert (changed["title"], changed["description"], changed["tags"]) == (
        "new title",
        None,
        ["b", "c"],
    )
    before = len(await working.events())
    assert await put({"tags": ["b", "c"]}) == changed  # nothing changed, nothing announced
    assert await put({}) == changed
    assert len(await working.events()) == before == 4

    for body, code in (
        ({"title": "t" * 201}, "invalid_request"),
        ({"title": 5}, "invalid_request"),
        ({"title": "a\x00b"}, "invalid_request"),
        ({"tags": "b"}, "invalid_request"),
        ({"tags": ["a b"]}, "invalid_metadata"),
        ({"tags": [f"t{n}" for n in range(11)]}, "invalid_metadata"),
        ([], "invalid_request"),
    ):
        problem(await working.call("PUT", path, me, json=body), 422, code)
    for raw, status in ((b"{", 400), (b'{"title": "\\ud800"}', 422), (b"", 422)):
        answer = await working.call(
            "PUT", path, me, content=raw, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == status, answer.text
    assert (await working.get(path)).json() == changed


@pytest.mark.parametrize("by", ["owner", "admin"])
async def test_what_is_removed_is_gone_and_stays_gone(working: ContentService, by: str) -> None:
    data = encoded(meme(6), "PNG")
    found = await working.processed(data)
    path = f"/content/{found['id']}"
    full = (await working.get(f"{path}/media/full")).content
    who = working.creator if by == "owner" else working.issuer.principal("admin")
    answer = await working.call("DELETE", path, who)
    assert (answer.status_code, answer.content) == (204, b"")

    problem(await working.get(path, working.creator), 410, "content_removed")
    for suffix in ("/media/full", "/media/thumb?v=1"):
        await gone(working, path + suffix)
    problem(await working.call("DELETE", path, who), 410, "content_removed")
    put = await working.call("PUT", path, working.creator, json={"title": "x"})
    problem(put, 410, "content_removed")
    assert (await working.get("/content", working.creator)).json()["items"] == []
    await until(lambda: working.stored() == [])

    stranger = working.issuer.principal("creator")
    problem(await working.upload(data, caller=stranger), 409, "removed_before")
    problem(await working.upload(full, caller=stranger), 409, "removed_before")
    again = await working.processed(encoded(meme(6), "WEBP", lossless=True), caller=stranger)
    assert again["rejection"]["code"] == "removed_before"

    events = await working.events()
    published, removed = events[1:3]
    assert event_names([published, removed]) == ["meme.published.v1", "meme.removed.v1"]
    assert removed.version > published.version
    assert removed.data["removedBy"] == by


async def gone(working: ContentService, path: str) -> None:
    """Within a second: until then it may be served as it was read a moment ago."""

    async def refused() -> bool:
        answer = await working.get(path)
        return answer.status_code != 200

    await until(refused)
    problem(await working.get(path), 410, "content_removed")


async def test_an_upload_may_be_taken_back_while_it_waits(content: ContentService) -> None:
    found = (await content.upload()).json()
    path = f"/content/{found['id']}"
    assert (await content.call("DELETE", path, content.creator)).status_code == 204
    problem(await content.get(path, content.creator), 410, "content_removed")
    assert await content.count("processing_job") == 0
    assert (await content.upload()).status_code == 202  # never shown: it may come again
    async with content.working():
        await until(lambda: content.stored("uploads") == [])
    assert event_names(await content.events()) == ["meme.processing.v1", "meme.published.v1"]


async def test_removal_and_change_at_the_same_time(working: ContentService) -> None:
    found = await working.processed()
    path, me = f"/content/{found['id']}", working.creator
    answers = await asyncio.gather(
        *(working.call("DELETE", path, me) for _ in range(3)),
        *(working.call("PUT", path, me, json={"title": f"t{n}"}) for n in range(3)),
    )
    assert sorted(answer.status_code for answer in answers[:3]) == [204, 410, 410]
    assert {answer.status_code for answer in answers[3:]} <= {200, 410}
    events = await working.events()
    assert event_names(events)[-1] == "meme.removed.v1"
    versions = [event.version for event in events]
    assert versions == sorted(set(versions))


async def test_a_failing_commit_changes_nothing(serve: Serve) -> None:
    async with serve() as working, working.working():
        found = await working.processed()
        path, me = f"/content/{found['id']}", working.creator
        await working.as_owner("""
            create function refuse() returns trigger language plpgsql as
            $$ begin raise exception 'no commit today'; end $$;
            create constraint trigger refuse after update on content
            deferrable initially deferred for each row execute function refuse();
        """)
        problem(await working.call("PUT", path, me, json={"title": "x"}), 500, "internal_error")
        problem(await working.call("DELETE", path, me), 500, "internal_error")
        assert (await working.get(path)).json() == found
        assert (await working.get(f"{path}/media/full")).status_code == 200
        assert len(await working.events()) == 2


async def test_the_audit_feed_is_ones_own(working: ContentService) -> None:
    found = await working.processed()
    await working.call("DELETE", f"/content/{found['id']}", working.creator)
    feed = (await working.get("/content/audit", working.creator)).json()["items"]
    assert [entry["action"] for entry in feed] == ["content.meme.removed", "content.meme.uploaded"]
    assert {entry["subject"] for entry in feed} == {found["id"]}
    stranger = working.issuer.principal("creator")
    assert (await working.get("/content/audit", stranger)).json()["items"] == []
    problem(await working.get("/content/audit"), 401, "token_required")
