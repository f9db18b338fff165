"""Requests whose bytes could be read in two ways, have no end, or come together."""

import contextlib

import pytest

from memepool_common import server
from services.gateway.tests.harness import Echo, StartGateway, exchange_bytes, upstream_of


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
    ],
)
async def test_requests_whose_end_is_doubtful_are_refused(
    start_gateway: StartGateway, head: bytes
) -> None:
    echo = Echo()
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        request = b"POST /auth/challenge HTTP/1.1\r\nHost: x\r\n" + head
        smuggled = b"\r\n0\r\n\r\nGET /payments/balance HTTP/1.1\r\nHost: x\r\n\r\n"
        answer = await exchange_bytes(gateway.port, request + smuggled)
    assert answer.startswith(b"HTTP/1.1 400"), answer[:300]
    assert answer.count(b"HTTP/1.1") == 1
    assert not echo.seen


async def test_pipelined_requests_stay_apart(start_gateway: StartGateway) -> None:
    echo = Echo()
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        requests = b"".join(
            b"POST /auth/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n%s\r\n%d"
            % (b"Connection: close\r\n" if number == 2 else b"", number)
            for number in range(3)
        )
        answer = await exchange_bytes(gateway.port, requests)
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert [seen.body for seen in echo.seen] == [b"0", b"1", b"2"]


async def test_a_head_without_end_is_not_kept(start_gateway: StartGateway) -> None:
    async with upstream_of(Echo()) as url, start_gateway(url) as gateway:
        head = b"GET /rounds HTTP/1.1\r\nHost: x\r\nX-Large: "
        for endless in (head + b"x" * 800_000, head + b"x\r\nX: y" * 100_000):
            with contextlib.suppress(ConnectionResetError):  # its answer may be lost
                answer = await exchange_bytes(gateway.port, endless)
                assert answer.startswith(b"HTTP/1.1 431")
        first = b"GET /rounds HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n"
        last = first.replace(b"Host: x", b"Host: x\r\nConnection: close")
        kept = await exchange_bytes(gateway.port, first * 9 + last)  # 200 kB, but ten heads
    assert kept.count(b"HTTP/1.1 200") == 10


async def test_a_head_that_does_not_come_ends_the_connection(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_TIMEOUT_S", 0.2)
    async with upstream_of(Echo()) as url, start_gateway(url) as gateway:
        assert await exchange_bytes(gateway.port, b"") == b""
        assert await exchange_bytes(gateway.port, b"GET /rounds HTTP/1.1\r\nHost: ") == b""
