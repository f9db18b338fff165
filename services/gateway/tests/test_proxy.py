"""What crosses the gateway: against real servers on both sides."""

import asyncio
import gzip
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from memepool_gateway.settings import EdgeSettings
from services.gateway.tests.harness import (
    Echo,
    StartGateway,
    exchange_bytes,
    scripted,
    upstream_of,
)


async def test_a_request_and_its_answer_cross_unchanged(start_gateway: StartGateway) -> None:
    echo = Echo(status=201, headers=[(b"location", b"/rounds/1/votes/2"), (b"x-own", b"yes")])
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        answer = await gateway.client.post(
            "/v1/rounds/1/vote?a=%20b&c=d%2Fe",
            json={"contentId": "1"},
            headers={"Idempotency-Key": "k1", "Prefer": "wait=2", "X-Request-Id": "mine-1"},
        )
    (seen,) = echo.seen
    assert (seen.method, seen.target) == ("POST", "/rounds/1/vote?a=%20b&c=d%2Fe")
    assert seen.body == b'{"contentId":"1"}'
    assert seen.header("content-length") == str(len(seen.body))
    assert seen.header("idempotency-key") == "k1"
    assert seen.header("prefer") == "wait=2"
    assert seen.header("x-request-id") == "mine-1"
    assert seen.header("user-agent") == f"python-httpx/{httpx.__version__}"
    assert (answer.status_code, answer.json()) == (201, {"ok": True})
    assert answer.headers["location"] == "/rounds/1/votes/2"
    assert answer.headers["x-own"] == "yes"
    assert answer.headers["x-request-id"] == "mine-1"
    assert len(answer.headers.get_list("date")) == 1


async def test_a_request_id_and_a_trace_are_made_and_passed(start_gateway: StartGateway) -> None:
    echo = Echo()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        answer = await gateway.client.get("/rounds/current", headers={"traceparent": parent})
        await gateway.client.get("/rounds/current", headers={"X-Request-Id": "x" * 65})
    first, second = echo.seen
    assert first.header("x-request-id") == answer.headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f-]{36}", second.header("x-request-id") or "")
    assert (first.header("traceparent") or "").split("-")[1] == parent.split("-")[1]


async def test_headers_about_the_way_are_never_the_clients(start_gateway: StartGateway) -> None:
    echo = Echo(
        headers=[
            *((b"connection", b"x-hop"), (b"x-hop", b"1"), (b"server", b"secret/1")),
            *((b"access-control-allow-origin", b"*"), (b"set-cookie", b"a=1")),
            (b"set-cookie", b"b=2"),
        ]
    )
    forged = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Host": "evil",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Prefix": "/x",
        "X_Forwarded_For": "6.6.6.6",
        "Forwarded": "for=6.6.6.6",
        "X-Real-IP": "6.6.6.6",
        "X-Original-URL": "/admin",
        "X-HTTP-Method-Override": "DELETE",
        "Connection": "keep-alive, X-Named",
        "X-Named": "1",
        "TE": "trailers",
        "Proxy-Authorization": "Basic eA==",
        "Cookie": "__Host-refresh=r",
    }
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        answer = await gateway.client.get("/auth/me", headers=forged)
    (seen,) = echo.seen
    names = {name for name, _ in seen.headers}
    assert seen.header("x-forwarded-for") == "127.0.0.1"
    assert seen.header("x-forwarded-host") == f"127.0.0.1:{gateway.port}"
    assert seen.header("x-forwarded-proto") == "http"
    assert seen.header("cookie") == "__Host-refresh=r"
    assert not names & {
        *("x_forwarded_for", "forwarded", "x-real-ip", "x-original-url", "x-named", "te"),
        *("x-http-method-override", "x-forwarded-prefix", "proxy-authorization"),
    }
    assert "x-hop" not in answer.headers
    assert "server" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize(
    ("hops", "listed", "address"),
    [
        (1, "6.6.6.6, 203.0.113.7", "203.0.113.7"),
        (2, "6.6.6.6, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        (1, "2001:db8::1", "2001:db8::1"),
        (1, "nonsense", "127.0.0.1"),
        (3, "203.0.113.7", "203.0.113.7"),
    ],
)
async def test_the_client_is_the_rightmost_address_that_is_not_a_proxy_of_ours(
    start_gateway: StartGateway, hops: int, listed: str, address: str
) -> None:
    echo = Echo()
    edge = EdgeSettings(trusted_hops=hops)
    async with upstream_of(echo) as url, start_gateway(url, edge=edge) as gateway:
        forwarded = {"X-Forwarded-For": listed, "X-Forwarded-Proto": "https"}
        await gateway.client.get("/rounds", headers=forwarded)
    assert echo.seen[0].header("x-forwarded-for") == address
    assert echo.seen[0].header("x-forwarded-proto") == "https"


async def test_compressed_answers_and_conditional_requests_pass(
    start_gateway: StartGateway,
) -> None:
    packed = gzip.compress(b'{"items":[]}')
    echo = Echo(headers=[(b"content-encoding", b"gzip"), (b"etag", b'"1"')], body=[packed])
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        request = gateway.client.build_request(
            "GET", "/rounds", headers={"If-None-Match": '"0"', "Range": "bytes=0-1"}
        )
        answer = await gateway.client.send(request, stream=True)
        assert b"".join([chunk async for chunk in answer.aiter_raw()]) == packed
        await answer.aclose()
    assert echo.seen[0].header("if-none-match") == '"0"'
    assert echo.seen[0].header("range") == "bytes=0-1"
    assert answer.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body_have_none(start_gateway: StartGateway, status: int) -> None:
    async def without_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            # A 304 may tell the length that a 200 would have had.
            length = b"Content-Length: 100\r\n" if status == 304 else b""
            writer.write(b'HTTP/1.1 %d X\r\n%sETag: "1"\r\n\r\n' % (status, length))
            await writer.drain()

    async with scripted(without_body) as url, start_gateway(url) as gateway:
        answer = await gateway.client.get("/rounds")
        again = await gateway.client.get("/rounds")
    assert (answer.status_code, answer.content, again.status_code) == (status, b"", status)
    assert answer.headers["etag"] == '"1"'


async def test_head_has_the_headers_of_get_and_no_body(start_gateway: StartGateway) -> None:
    echo = Echo(headers=[(b"content-length", b"11"), (b"etag", b'"1"')])
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        answer = await gateway.client.head("/rounds/1")
        after = await gateway.client.get("/rounds/1")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "11"
    assert after.json() == {"ok": True}
    assert [seen.method for seen in echo.seen] == ["HEAD", "GET"]


async def test_a_chunked_body_is_passed_on_as_chunks(start_gateway: StartGateway) -> None:
    echo = Echo()

    async def body() -> AsyncIterator[bytes]:
        yield b"a" * 400
        yield b"b" * 400

    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        answer = await gateway.client.post("/content/upload", content=body())
    assert answer.status_code == 200
    assert echo.seen[0].body == b"a" * 400 + b"b" * 400
    assert echo.seen[0].header("transfer-encoding") == "chunked"
    assert echo.seen[0].header("content-length") is None


async def test_a_large_upload_and_a_large_answer_stream_through(
    start_gateway: StartGateway,
) -> None:
    echo = Echo(body=[b"x" * 65_536] * 20)
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        answer = await gateway.client.post("/content/upload", content=b"y" * 200_000)
    assert len(echo.seen[0].body) == 200_000
    assert answer.content == b"x" * 65_536 * 20


async def test_expect_continue_is_answered_here(start_gateway: StartGateway) -> None:
    echo = Echo()
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        request = (
            b"POST /auth/challenge HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
            b"Expect: 100-continue\r\nConnection: close\r\n\r\n{}"
        )
        answer = await exchange_bytes(gateway.port, request)
        refused = await exchange_bytes(
            gateway.port, request.replace(b"Content-Length: 2", b"Content-Length: 9999")
        )
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
    assert refused.startswith(b"HTTP/1.1 413")
    assert echo.seen[0].header("expect") is None
    assert len(echo.seen) == 1


async def test_unknown_paths_end_here_and_unknown_methods_of_a_path_upstream(
    start_gateway: StartGateway,
) -> None:
    echo = Echo(status=405)
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        for path in (
            "/nothing",
            "/internal/auth-state",
            "/authx/me",
            "/v1",
            "/v2/rounds",
            "/docsx",
        ):
            answer = await gateway.client.get(path)
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (404, "not_found"), path
            assert answer.headers["content-type"] == "application/problem+json"
            assert problem["instance"] == path
        assert (await gateway.client.put("/rounds/current")).status_code == 405
        refused = await gateway.client.request("TRACE", "/rounds/current")
    assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
    assert [seen.method for seen in echo.seen] == ["PUT"]


@pytest.mark.parametrize(
    "path",
    [
        "/auth//me",
        "/rounds/../payments/balance",
        "/rounds/./1",
        "/rounds/..",
        "/rounds/%2e%2e/payments",
        "/rounds/..%2fpayments",
        "/rounds/%2Fpayments",
        "/rounds/a%5cb",
        "/rounds/a\\b",
        "/rounds/%252e",
        "/rounds/%00",
        "/rounds/%0a",
        "/rounds/%ff",
        "/rounds/%zz",
        "/rounds/a%",
        "//rounds",
        "/v1//rounds",
        "/v1/../rounds",
    ],
)
async def test_paths_that_parsers_read_differently_are_refused(
    start_gateway: StartGateway, path: str
) -> None:
    echo = Echo()
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = await exchange_bytes(gateway.port, request.encode())
    assert answer.startswith(b"HTTP/1.1 400"), answer[:200]
    assert b"malformed_path" in answer
    assert not echo.seen


async def test_long_paths_and_large_headers_are_refused(start_gateway: StartGateway) -> None:
    echo = Echo()
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        long = await gateway.client.get("/rounds/" + "x" * 3_000)
        query = await gateway.client.get("/rounds?cursor=" + "x" * 9_000)
        large = await gateway.client.get("/rounds", headers={"X-Large": "x" * 40_000})
        latin = await gateway.client.get("/rounds", headers=[(b"X-Name", b"\xe9")])
    assert (long.status_code, query.status_code, large.status_code) == (414, 414, 431)
    assert (latin.status_code, latin.json()["code"]) == (400, "malformed_header")
    assert not echo.seen


async def test_the_gateways_own_paths(start_gateway: StartGateway) -> None:
    async with start_gateway() as gateway:
        document = await gateway.client.get("/v1/openapi.json")
        again = await gateway.client.get(
            "/openapi.json", headers={"If-None-Match": document.headers["etag"]}
        )
        page = await gateway.client.get("/docs")
        script = await gateway.client.head("/docs/page.js")
        root = await gateway.client.get("/")
        wrong = await gateway.client.post("/docs")
    assert document.json()["info"]["title"] == "Memepool"
    assert again.status_code == 304
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "://" not in page.text  # nothing from any other host
    assert script.status_code == 200
    assert root.headers["location"] == "/docs"
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
