"""AITubo's client and the fetcher of its pictures, against servers that mean no good."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from memepool_common.server import serving
from memepool_content.adapters.aitubo import Aitubo, NoAnswerError, Order, RemoteState, Submitted
from memepool_content.adapters.result_fetcher import ResultFetcher
from memepool_content.domain.transformation import Kind
from memepool_content.settings import AituboSettings

GUARD_S = 30.0
ORDER = Order(Kind.TEXT2IMAGE, "x", None, 64, 64, None, None)
BOMB = gzip.compress(gzip.compress(bytes(64 * 1024 * 1024)))
"""Of some hundred bytes; unpacked as its header says, it is 64 MiB of zeros."""


def settings(origin: str, **values: Any) -> AituboSettings:
    given = {
        "base_url": origin,
        "api_key": "key",
        "source_base_url": "https://memes.example",
        "source_key": "k" * 32,
        "result_origins": (origin,),
    }
    return AituboSettings.model_validate({**given, **values})


async def bomb(request: Request) -> Response:
    assert request.headers["Accept-Encoding"] == "identity"
    return Response(BOMB, headers={"Content-Encoding": "gzip, gzip"})


async def trickle(_request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.02)

    return StreamingResponse(pieces())


def server(endpoint: Any) -> Any:
    routes = [Route("/{path:path}", endpoint, methods=["GET", "POST"])]
    return serving(Starlette(routes=routes), "127.0.0.1", 0)


async def test_nothing_is_unpacked(tmp_path: Path) -> None:
    async with server(bomb) as port:
        origin = f"http://127.0.0.1:{port}"
        await ResultFetcher(settings(origin)).fetch(f"{origin}/a.jpg", tmp_path / "result")
        assert (tmp_path / "result").read_bytes() == BOMB
        client = Aitubo(settings(origin))
        with pytest.raises(NoAnswerError, match="cannot be read"):
            await client.state("id")
        await client.aclose()


async def test_an_answer_that_trickles_is_not_waited_for(tmp_path: Path) -> None:
    async with server(trickle) as port, asyncio.timeout(GUARD_S):
        origin = f"http://127.0.0.1:{port}"
        limits = settings(origin, timeout_s=0.3, result_timeout_s=0.3)
        client = Aitubo(limits)
        with pytest.raises(NoAnswerError, match="did not answer"):
            await client.state("id")
        with pytest.raises(NoAnswerError, match="did not answer"):
            await client.submit(ORDER)
        await client.aclose()
        with pytest.raises(NoAnswerError):
            await ResultFetcher(limits).fetch(f"{origin}/a.jpg", tmp_path / "result")


def answering(data: Any) -> Any:
    async def answer(_request: Request) -> Response:
        return JSONResponse({"code": 0, "info": "", "data": data})

    return server(answer)


async def test_a_result_that_is_null_is_no_picture() -> None:
    images = {"domain": None, "images": None, "nsfws": None, "artIds": None}
    done = {"status": 2, "result": {"code": 0, "info": "", "data": images}}
    async with answering(done) as port:
        client = Aitubo(settings(f"http://127.0.0.1:{port}"))
        assert await client.state("id") == RemoteState(ended=True)
        await client.aclose()


@pytest.mark.parametrize(
    ("said", "credits_consumed"),
    [(2, 2), (0, 0), (1.5, 2), (None, None), ("two", None), (-1, None), (2**40, None)],
)
async def test_a_job_that_was_taken_is_ours_whatever_it_is_said_to_cost(
    said: Any, credits_consumed: int | None
) -> None:
    async with answering({"id": "a1", "consumedCredit": said}) as port:
        client = Aitubo(settings(f"http://127.0.0.1:{port}"))
        assert await client.submit(ORDER) == Submitted("a1", credits_consumed)
        await client.aclose()
