"""The same image in the formats that clients take."""

from memepool_common.testing import until
from services.content.tests.harness import TIMEOUT_S, ContentService, problem
from services.content.tests.pictures import animation, encoded, meme, opened

CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"


async def in_all_formats(working: ContentService, data: bytes) -> str:
    """The path of a meme that has been written in all formats."""
    found = await working.processed(data)
    assert found["status"] == "ready", found
    await until(working.in_all_formats, TIMEOUT_S)
    return f"/content/{found['id']}"


async def types(working: ContentService, path: str, accept: str) -> list[str]:
    answers = [
        await working.get(f"{path}/media/{name}?v=1", headers={"Accept": accept})
        for name in ("full", "preview", "thumb")
    ]
    for answer in answers:
        assert answer.status_code == 200
        assert answer.headers["Vary"] == "Accept"
        kind = opened(answer.content).format
        assert answer.headers["Content-Type"] == f"image/{kind}".lower()
    return [answer.headers["Content-Type"].removeprefix("image/") for answer in answers]


async def test_a_photograph(working: ContentService) -> None:
    path = await in_all_formats(working, encoded(meme(1, (1200, 400)), quality=95))
    assert await types(working, path, "*/*") == ["jpeg", "jpeg", "webp"]
    assert await types(working, path, "image/jpeg") == ["jpeg", "jpeg", "jpeg"]
    assert set(await types(working, path, CHROME)) <= {"avif", "webp"}
    assert await types(working, path, "image/webp,*/*;q=0.1") == ["webp", "webp", "webp"]


async def test_each_format_has_its_own_tag(working: ContentService) -> None:
    path = await in_all_formats(working, encoded(meme(2)))
    full = f"{path}/media/full?v=1"
    jpeg = await working.get(full)
    webp = await working.get(full, headers={"Accept": "image/webp"})
    assert webp.headers["ETag"] != jpeg.headers["ETag"]
    assert len(webp.content) < len(jpeg.content)
    for accept, etag, status in (
        ("image/webp", webp.headers["ETag"], 304),
        ("image/webp", jpeg.headers["ETag"], 200),
        ("image/jpeg", jpeg.headers["ETag"], 304),
    ):
        headers = {"Accept": accept, "If-None-Match": etag}
        answer = await working.get(full, headers=headers)
        assert (answer.status_code, answer.headers["Vary"]) == (status, "Accept")
    asked = {"Accept": "image/webp", "Range": "bytes=10-19"}
    part = await working.get(full, headers={**asked, "If-Range": webp.headers["ETag"]})
    assert (part.status_code, part.content) == (206, webp.content[10:20])
    other = await working.get(full, headers={**asked, "If-Range": jpeg.headers["ETag"]})
    assert (other.status_code, other.content) == (200, webp.content)
    head = await working.call("HEAD", full, headers={"Accept": "image/webp"})
    assert head.headers["Content-Length"] == str(len(webp.content))
    assert head.headers["ETag"] == webp.headers["ETag"]


async def test_a_list_may_come_in_several_lines(working: ContentService) -> None:
    path = await in_all_formats(working, encoded(meme(9)))
    full = f"{path}/media/full?v=1"
    etag = (await working.get(full, headers={"Accept": "image/webp"})).headers["ETag"]
    lines = [("Accept", "image/gif"), ("Accept", "image/webp")]
    matching = [("If-None-Match", '"other"'), ("If-None-Match", etag)]
    for more, status in (([], 200), (matching, 304)):
        answer = await working.client.get(full, headers=[*lines, *more])
        assert (answer.status_code, answer.headers["ETag"]) == (status, etag)


async def test_a_drawing_stays_without_loss(working: ContentService) -> None:
    picture = meme(3, (500, 400), "RGBA")
    picture.putalpha(128)
    path = await in_all_formats(working, encoded(picture, "PNG"))
    before = opened((await working.get(f"{path}/media/full")).content)
    answer = await working.get(f"{path}/media/full", headers={"Accept": CHROME})
    assert answer.headers["Content-Type"] == "image/webp"
    assert opened(answer.content).convert("RGBA").tobytes() == before.tobytes()
    assert await types(working, path, "image/png") == ["png", "png", "png"]


async def test_who_cannot_show_an_animation_gets_its_poster(working: ContentService) -> None:
    path = await in_all_formats(working, animation("GIF"))
    assert await types(working, path, CHROME) == ["webp", "webp", "webp"]
    moving = await working.get(f"{path}/media/full", headers={"Accept": CHROME})
    assert frames(moving.content) == 5
    still = await working.get(f"{path}/media/full", headers={"Accept": "image/jpeg,image/png"})
    assert frames(still.content) == 1


def frames(data: bytes) -> int:
    return int(getattr(opened(data), "n_frames", 1))


async def test_all_of_it_goes_with_a_removal_and_is_known(working: ContentService) -> None:
    path = await in_all_formats(working, encoded(meme(4)))
    asked = {"Accept": "image/webp"}
    served = (await working.get(f"{path}/media/full", headers=asked)).content
    assert len(working.stored("media")) > 2
    stranger = working.issuer.principal("creator")
    problem(await working.upload(served, caller=stranger), 409, "duplicate_content")
    assert (await working.call("DELETE", path, working.creator)).status_code == 204
    await until(lambda: working.stored() == [])
    assert await working.count("alternative") == 0
    problem(await working.upload(served, caller=stranger), 409, "removed_before")


async def test_a_removal_while_it_is_written(content: ContentService) -> None:
    answer = (await content.upload(encoded(meme(5)))).json()
    async with content.working():
        await content.settled(answer["id"])
        removed = await content.call("DELETE", f"/content/{answer['id']}", content.creator)
        assert removed.status_code == 204
    async with content.working():  # the first has ended what it had in hand
        await until(content.all_erased)
    assert content.stored() == []
    assert await content.count("alternative") == 0


async def test_what_cannot_be_written_is_left(working: ContentService) -> None:
    found = await working.processed(encoded(meme(6)))
    await working.as_owner(
        "insert into processing_job (content_id, stage, version, creator_id, enqueued_at,"
        " available_at, attempts) select id, 'alternatives', 9, creator_id, now(), now(), 5"
        " from content"
    )
    await until(working.in_all_formats, TIMEOUT_S)
    assert (await working.get(f"/content/{found['id']}")).json()["status"] == "ready"
