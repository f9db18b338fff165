"""Limits, and upstreams that are slow, gone, broken or hostile."""

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from memepool_common.testing.waiting import until
from services.gateway.tests.harness import (
    LIMITS,
    Echo,
    StartGateway,
    exchange_bytes,
    scripted,
    upstream_of,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) >= {"type", "title", "status", "detail", "instance", "code", "errors"}
    assert body["status"] == answer.status_code
    return answer.status_code, body["code"]


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def test_a_body_too_large_is_refused_by_its_length_and_by_count(
    start_gateway: StartGateway,
) -> None:
    echo = Echo()

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 500

    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        declared = await gateway.client.post("/auth/challenge", content=b"x" * 1_001)
        counted = await gateway.client.post("/auth/challenge", content=endless())
        # Who sends all of it before reading, as most clients do, reads the answer too.
        large = await gateway.client.post("/auth/challenge", content=b"x" * 12_000_000)
        exact = await gateway.client.post("/auth/challenge", content=b"x" * 1_000)
    assert problem(declared) == (413, "body_too_large")
    assert problem(counted) == problem(large) == (413, "body_too_large")
    assert declared.headers["connection"] == "close"
    assert exact.status_code == 200
    assert [len(seen.body) for seen in echo.seen] == [1_000]


async def test_a_body_that_stops_coming_is_given_up(start_gateway: StartGateway) -> None:
    limits = LIMITS.model_copy(update={"body_timeout_s": 0.2})
    async with upstream_of(Echo()) as url, start_gateway(url, limits=limits) as gateway:
        answer = await exchange_bytes(
            gateway.port,
            b"POST /auth/challenge HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345",
        )
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"body_timeout" in answer


async def test_an_upstream_that_does_not_answer_in_time(start_gateway: StartGateway) -> None:
    requests = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await read_head(reader)
        requests += 1
        await reader.read()  # until the gateway hangs up

    limits = LIMITS.model_copy(update={"answer_timeout_s": 0.5})
    async with scripted(silent) as url, start_gateway(url, limits=limits) as gateway:
        answer = await gateway.client.get("/rounds/1/votes")
    assert problem(answer) == (504, "service_timeout")
    assert requests == 1  # what may still be running is not started again


async def test_the_whole_exchange_has_a_limit(start_gateway: StartGateway) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    limits = LIMITS.model_copy(update={"exchange_timeout_s": 2.0})  # the head comes before that
    async with scripted(drip) as url, start_gateway(url, limits=limits) as gateway:
        with pytest.raises(httpx.RemoteProtocolError):  # seen to be cut, not taken for whole
            await gateway.client.get("/rounds/1/bundle")
        after = await gateway.client.get("/nothing")
    assert after.status_code == 404


async def test_a_refused_connection(start_gateway: StartGateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with start_gateway(f"http://127.0.0.1:{port}") as gateway:
        read = await gateway.client.get("/rounds/1/votes")
        write = await gateway.client.post("/auth/challenge", json={})
    assert problem(read) == (503, "service_unavailable")
    assert problem(write) == (503, "service_unavailable")
    assert read.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("method", "tries"),
    [("GET", 2), ("HEAD", 2), ("POST", 1), ("PUT", 1), ("DELETE", 1), ("PATCH", 1)],
)
async def test_only_reads_are_tried_again_when_the_connection_breaks(
    start_gateway: StartGateway, method: str, tries: int
) -> None:
    requests = 0

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await read_head(reader)
        requests += 1

    async with scripted(break_off) as url, start_gateway(url) as gateway:
        answer = await gateway.client.request(method, "/rounds/1/votes")
    assert answer.status_code == 502
    assert requests == tries


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_kept_connection_that_turns_out_dead(
    start_gateway: StartGateway, method: str
) -> None:
    requests = 0

    async def one_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await read_head(reader)
        requests += 1
        writer.write(OK)
        await writer.drain()
        await read_head(reader)  # the second one gets no answer
        requests += 1

    async with scripted(one_each) as url, start_gateway(url) as gateway:
        first = await gateway.client.request(method, "/rounds/1/votes")
        second = await gateway.client.request(method, "/rounds/1/votes")
    assert first.status_code == 200
    assert (second.status_code, requests) == ((200, 3) if method == "GET" else (502, 2))


async def test_a_read_survives_one_reset(start_gateway: StartGateway) -> None:
    connections = 0

    async def reset_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_head(reader)
        if connections == 1:
            linger = socket.SO_LINGER
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, linger, b"\1\0\0\0" * 2)
            return
        writer.write(OK)
        await writer.drain()

    async with scripted(reset_once) as url, start_gateway(url) as gateway:
        answer = await gateway.client.get("/rounds/1/votes")
    assert (answer.status_code, answer.content, connections) == (200, b"{}", 2)


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Large: " + b"x" * 20_000 + b"\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
    ],
)
async def test_an_answer_that_is_none(start_gateway: StartGateway, answer: bytes) -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(answer)
        await writer.drain()

    async with scripted(garbage) as url, start_gateway(url) as gateway:
        received = await gateway.client.get("/rounds/1/votes")
    assert problem(received)[0] == 502


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n" + b"x" * 65_536 + b"\r\n",
    ],
)
async def test_half_an_answer_is_seen_to_be_half(
    start_gateway: StartGateway, answer: bytes
) -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(answer)
        await writer.drain()

    async with scripted(half) as url, start_gateway(url) as gateway:
        with pytest.raises(httpx.RemoteProtocolError):
            await gateway.client.get("/rounds/1/votes")


async def test_an_answer_without_length_that_grows_too_large_is_cut(
    start_gateway: StartGateway,
) -> None:
    limits = LIMITS.model_copy(update={"answer_bytes_max": 100_000})
    echo = Echo(body=[b"x" * 65_536] * 4)
    async with upstream_of(echo) as url, start_gateway(url, limits=limits) as gateway:
        with pytest.raises(httpx.RemoteProtocolError):
            await gateway.client.get("/rounds/1/votes")


async def test_an_interim_answer_is_not_the_answer(start_gateway: StartGateway) -> None:
    async def hints(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK)
        await writer.drain()

    async with scripted(hints) as url, start_gateway(url) as gateway:
        answer = await gateway.client.get("/rounds/1/votes")
    assert (answer.status_code, answer.content) == (200, b"{}")


async def test_an_early_answer_to_an_unfinished_body(start_gateway: StartGateway) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 422 X\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        await reader.read()

    async with scripted(refuse) as url, start_gateway(url) as gateway:
        head = b"POST /content/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n"
        answer = await exchange_bytes(gateway.port, head + b"part")
    assert answer.startswith(b"HTTP/1.1 422")
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("sent", [b"GET /rounds/1 HTTP/1.1\r\nHost: x\r\n\r\n", b""])
async def test_a_client_that_leaves_ends_the_upstreams_work(
    start_gateway: StartGateway, sent: bytes
) -> None:
    arrived, hung_up = asyncio.Event(), asyncio.Event()

    async def patient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        arrived.set()
        await reader.read()
        hung_up.set()

    async with scripted(patient) as url, start_gateway(url) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        half = b"POST /content/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n12345"
        writer.write(sent or half)
        async with asyncio.timeout(60):
            await arrived.wait()
            writer.close()
            await hung_up.wait()


async def test_the_pool_is_bounded_and_a_busy_service_does_not_hold_up_others(
    start_gateway: StartGateway,
) -> None:
    release = asyncio.Event()
    busy = 0

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal busy
        await read_head(reader)
        busy += 1
        await release.wait()
        writer.write(OK)
        await writer.drain()

    async with scripted(wait) as slow, upstream_of(Echo()) as quick:
        upstreams = {"rounds": slow, "connections_max": 2, "connect_timeout_s": 2.0}
        async with start_gateway(quick, upstreams=upstreams) as gateway:
            waiting = [asyncio.create_task(gateway.client.get("/rounds/1/votes")) for _ in range(2)]
            await until(lambda: busy == 2)
            refused = await gateway.client.get("/rounds/1/votes")
            other = await gateway.client.get("/payments/balance")
            release.set()
            answers = await asyncio.gather(*waiting)
    assert problem(refused) == (503, "service_unavailable")
    assert other.status_code == 200
    assert [answer.status_code for answer in answers] == [200, 200]
    assert busy == 2


async def test_slow_clients_hold_no_connection_to_a_service(start_gateway: StartGateway) -> None:
    echo = Echo()
    upstreams = {"connections_max": 1}
    async with upstream_of(echo) as url, start_gateway(url, upstreams=upstreams) as gateway:
        head = b"POST /auth/challenge HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        halves = [
            (head + b"Content-Length: 2\r\n\r\n{", b"}"),
            (head + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n}\r\n0\r\n\r\n"),
        ]
        slow = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in halves]
        for (_, writer), (first, _) in zip(slow, halves, strict=True):
            writer.write(first)
        for _ in range(5):  # the slow ones have been heard of by then, or are later
            assert (await gateway.client.post("/auth/challenge", json={})).status_code == 200
        for (reader, writer), (_, rest) in zip(slow, halves, strict=True):
            writer.write(rest)
            async with asyncio.timeout(60):
                assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
    assert [seen.body for seen in echo.seen] == [b"{}"] * 7
    assert {seen.header("content-length") for seen in echo.seen} == {"2"}


async def test_slow_uploads_hold_no_other_call_to_the_service(start_gateway: StartGateway) -> None:
    upstreams = {"connections_max": 1}
    async with upstream_of(Echo()) as url, start_gateway(url, upstreams=upstreams) as gateway:
        head = b"POST /content/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
        _, slow = await asyncio.open_connection("127.0.0.1", gateway.port)
        slow.write(head + b"{")

        async def taken() -> bool:
            return (await gateway.client.post("/content/upload")).status_code == 503

        await until(taken)
        assert (await gateway.client.get("/content/1")).status_code == 200
        slow.close()


async def test_a_circuit_opens_after_failures_in_a_row_and_closes_again(
    start_gateway: StartGateway,
) -> None:
    connections = 0
    healthy = False

    async def flaky(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_head(reader)
        if healthy:
            writer.write(OK)
            await writer.drain()

    upstreams = {"failures_max": 3, "open_s": 2.0}
    async with scripted(flaky) as url, start_gateway(url, upstreams=upstreams) as gateway:
        for _ in range(3):
            assert (await gateway.client.post("/auth/verify")).status_code == 502
        healthy = True
        assert problem(await gateway.client.post("/auth/verify"))[0] == 503
        assert connections == 3  # the open circuit asked nobody

        async def answers() -> bool:
            return (await gateway.client.post("/auth/verify")).status_code == 200

        await until(answers)
