"""What lies ready in memory is answered the same way as what does not."""

import asyncio

import httpx
import pytest

from memepool_common import telemetry
from memepool_common.testing import until
from memepool_content.api.media import MEDIA_PATH
from memepool_content.use_cases import media
from services.content.tests.harness import ContentService, Serve, problem
from services.content.tests.pictures import encoded, meme

VARYING = {"x-request-id", "date"}


@pytest.fixture
def for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "LIFE_S", 3_600.0)


def counted() -> float:
    labels = telemetry.HTTP_SECONDS.labels("content", "GET", MEDIA_PATH)
    return float(labels._sum.get())


def said(answer: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    headers = {name: value for name, value in answer.headers.items() if name not in VARYING}
    return answer.status_code, headers, answer.content


@pytest.mark.usefixtures("for_ever")
@pytest.mark.parametrize("query", ["", "?v=1"])
async def test_it_is_the_same_answer(serve: Serve, query: str) -> None:
    async with serve() as content, content.working():
        found = await content.processed()
        path = f"/content/{found['id']}/media/full{query}"
        cold = await content.get(path)
        timed = counted()
        hot = await content.get(path, headers={"X-Request-Id": "mine"})
        assert counted() == timed  # nothing but the shortcut leaves no time behind
        assert said(hot) == said(cold)
        assert hot.headers["X-Request-Id"] == "mine"
        assert hot.headers["Date"]
        # One connection after another, and several requests of one at once.
        for _ in range(3):
            assert said(await content.get(path)) == said(cold)
        assert counted() == timed
        for headers, status in (
            ({"Range": "bytes=0-9"}, 206),
            ({"If-None-Match": cold.headers["ETag"]}, 304),
            ({"If-None-Match": '"x"'}, 200),
            ({"Connection": "close"}, 200),
            ({"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}, 200),
            ({"X-Request-Id": "not one"}, 200),
        ):
            before = counted()
            answer = await content.get(path, headers=headers)
            assert answer.status_code == status
            assert counted() > before, headers
        head = await content.call("HEAD", path)
        assert (head.status_code, head.content) == (200, b"")
        problem(await content.get(path.replace("full", "huge")), 422, "invalid_request")


@pytest.mark.usefixtures("for_ever")
async def test_many_requests_on_one_connection_and_a_slow_reader(serve: Serve) -> None:
    async with serve() as content, content.working():
        found = await content.processed(encoded(meme(1, (1600, 1600)), quality=95))
        path = f"/content/{found['id']}/media/full"
        whole = (await content.get(path)).content
        reader, writer = await asyncio.open_connection(
            content.client.base_url.host, content.client.base_url.port
        )
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        writer.write(request * 50)
        for _ in range(50):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(len(whole)) == whole
        writer.close()
        await writer.wait_closed()


async def test_it_ends_with_a_removal_in_all_replicas(working: ContentService) -> None:
    found = await working.processed()
    path = f"/content/{found['id']}/media/full"
    async with working.replica() as elsewhere:
        for client in (working.client, elsewhere) * 2:
            assert (await client.get(path)).status_code == 200
        await working.call("DELETE", f"/content/{found['id']}", working.creator)

        async def over() -> bool:
            answers = [await client.get(path) for client in (working.client, elsewhere)]
            return {answer.status_code for answer in answers} == {410}

        await until(over)
        await until(working.all_erased)
        assert working.stored() == []
