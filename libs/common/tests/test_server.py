"""Servers inside a process: draining, taken ports, and answers to clients that still send."""

import asyncio
import contextlib
import json
import socket

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from memepool_common import server
from memepool_common.server import HEAD_BYTES_MAX, serving
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


HOST = "127.0.0.1"


async def _raw(port: int, request: bytes) -> tuple[bytes, bytes]:
    """Head and body of the answer; the connection ends after it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GARBAGE\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/9.9\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost x\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", b"400 Bad Request"),
        (b"CONNECT /x HTTP/1.1\r\nHost: x\r\n\r\n", b"400 Bad Request"),
        (
            (b"GET / HTTP/1.1\r\nHost: x\r\nX: ").ljust(HEAD_BYTES_MAX + 1, b"x"),
            b"431 Request Header Fields Too Large",
        ),
    ],
)
async def test_what_is_no_request_gets_a_problem(request_head: bytes, status: bytes) -> None:
    async with serving(Starlette(), "127.0.0.1", 0) as port:
        head, body = await _raw(port, request_head)
    assert head.startswith(b"HTTP/1.1 " + status)
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    problem = json.loads(body)
    assert (problem["type"], str(problem["status"])) == (
        f"/problems/{problem['code']}",
        status.decode()[:3],
    )


async def test_what_follows_a_body_is_no_header() -> None:
    async def seen(request: Request) -> PlainTextResponse:
        body = await request.body()
        return PlainTextResponse(f"{body.decode()} {request.headers.getlist('x-forwarded-for')}")

    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: 203.0.113.9\r\n"
    body = b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
    async with serving(Starlette(routes=[Route("/", seen, methods=["POST"])]), HOST, 0) as port:
        _, answer = await _raw(port, head + body)
    assert answer == b"hi ['203.0.113.9']"


@pytest.mark.parametrize("tail", [b"1\r\na\r\n0\r\nX: ", b"1\r\na\r\n1;x="])
async def test_what_follows_a_body_is_bounded(tail: bytes) -> None:
    """A field of a trailer is kept until it ends: without a bound it fills the memory."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    app = Starlette(routes=[Route("/", _echo, methods=["POST"])])
    async with serving(app, HOST, 0) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(head + tail)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(60):
                for _ in range(100):
                    writer.write(b"x" * HEAD_BYTES_MAX)
                    await writer.drain()
        assert writer.transport.is_closing()
        with contextlib.suppress(ConnectionError):  # its answer may be lost
            assert (await reader.read()).startswith(b"HTTP/1.1 431")


async def test_a_body_in_small_chunks_is_as_good_as_any() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = HEAD_BYTES_MAX // 2  # each of them is framed by five bytes
    app = Starlette(routes=[Route("/", _echo, methods=["POST"])])
    async with serving(app, HOST, 0) as port:
        _, answer = await _raw(port, head + b"1\r\nx\r\n" * chunks + b"0\r\n\r\n")
    assert answer == b"%d" % chunks


async def test_a_client_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of an answer is still to be sent: closing alone would wait for it for ever."""
    monkeypatch.setattr(server, "STALL_TIMEOUT_S", 0.5)
    stuck, gone = asyncio.Event(), asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await Starlette()(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        sending = asyncio.create_task(_send_for_ever(send))
        await asyncio.wait([sending], timeout=0.5)
        sending.cancel()
        stuck.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    async with serving(endless, HOST, 0) as port:
        _, writer = await asyncio.open_connection(HOST, port, limit=1)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(60):
            await stuck.wait()
            await gone.wait()
        writer.close()


async def _send_for_ever(send: Send) -> None:
    while True:
        await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("in_one_piece", [True, False])
@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: %d" % len(SMUGGLED), SMUGGLED),
        (b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
    ],
)
async def test_an_offer_of_another_protocol_is_passed_over(
    framing: bytes, body: bytes, *, in_one_piece: bool
) -> None:
    """Java's client offers HTTP/2 in this way. The body is the body, and no request of its own."""
    asked, entered = [], asyncio.Event()

    async def seen(request: Request) -> PlainTextResponse:
        entered.set()
        asked.append((request.url.path, await request.body(), "upgrade" in request.headers))
        return PlainTextResponse("")

    offer = b"POST /first HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, X\r\n"
    first, *rest = [offer + framing + b"\r\n\r\n", body] * 2
    rest += [b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]
    app = Starlette(routes=[Route("/{any}", seen, methods=["GET", "POST"])])
    async with serving(app, HOST, 0) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        if in_one_piece:
            rest.insert(0, first)
        else:
            writer.write(first)
            await asyncio.wait_for(entered.wait(), 10)
        writer.write(b"".join(rest))
        await asyncio.wait_for(reader.read(), 10)
        writer.close()
    assert asked == [("/first", SMUGGLED, False)] * 2 + [("/last", b"", False)]


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
