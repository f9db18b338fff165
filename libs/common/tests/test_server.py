"""Servers inside a process: draining, taken ports, and answers to clients that still send."""

import asyncio
import socket

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from memepool_common.server import serving
from memepool_common.web.middleware import BodyLimit


async def _echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


async def test_a_client_that_sends_too_much_reads_the_refusal() -> None:
    app = BodyLimit(Starlette(routes=[Route("/", _echo, methods=["POST"])]), 1000, {})
    async with serving(app, "127.0.0.1", 0) as port, httpx.AsyncClient() as client:
        for size in (1001, 2_000_000):
            answer = await client.post(f"http://127.0.0.1:{port}/", content=b"x" * size)
            assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert (await client.post(f"http://127.0.0.1:{port}/", content=b"x" * 1000)).text == "1000"


async def test_leaving_lets_a_request_in_flight_finish() -> None:
    entered, released = asyncio.Event(), asyncio.Event()

    async def slow(_request: Request) -> PlainTextResponse:
        entered.set()
        await released.wait()
        return PlainTextResponse("done")

    async with httpx.AsyncClient() as client:
        async with serving(Starlette(routes=[Route("/", slow)]), "127.0.0.1", 0) as port:
            asking = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/"))
            await entered.wait()
            asyncio.get_running_loop().call_later(0.3, released.set)
        assert (await asking).text == "done"
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://127.0.0.1:{port}/")


async def test_a_taken_port_is_an_error_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            async with serving(Starlette(), "127.0.0.1", taken.getsockname()[1]):
                pass
