"""The short way and FastAPI's give the same answers to anything."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import REGISTRY

from memepool_common.server import serving
from memepool_common.settings import HttpSettings
from memepool_common.testing import TestIssuer
from memepool_common.web.app import build_app
from memepool_common.web.deps import Caller, IdempotencyKey
from memepool_common.web.fast import Answer, FastPost, PlainRequest
from memepool_common.web.model import MoneyModel, PositiveSats
from memepool_common.web.money import MoneyRoute
from memepool_common.web.problem import Problem

PATH = "/wallets/7/payments"
TEMPLATE = "/wallets/{wallet}/payments"


class Payment(MoneyModel):
    amount: PositiveSats
    memo: str | None = None


class OutOfStockError(Exception):
    code = "out_of_stock"


def pay(request: PlainRequest[Payment]) -> asyncio.Future[list[Any]]:
    if request.body.memo == "wait":
        raise Problem(503, "overloaded", "Too many.", headers={"Retry-After": "1"})
    return asyncio.ensure_future(paid(request))


async def paid(request: PlainRequest[Payment]) -> list[Any]:
    if request.body.memo == "refuse":
        raise OutOfStockError("There is nothing left.")
    if request.body.memo == "crash":
        raise ZeroDivisionError
    said = [*request.path, request.body.amount, request.body.memo, request.key]
    return [*said, str(request.caller.user_id)]


def worded(said: list[Any]) -> Answer | None:
    return None if "for the route" in said else told(said)


def told(said: list[Any]) -> Answer:
    return Answer(202, orjson.dumps(said), "/payments/1")


router = APIRouter(route_class=MoneyRoute)
slow: list[str] = []


@router.post(TEMPLATE, status_code=202)
async def make_payment(
    request: Request, wallet: int, body: Payment, caller: Caller, key: IdempotencyKey = None
) -> Response:
    slow.append(str(wallet))
    answer = told(await pay(PlainRequest(request.app, (str(wallet),), caller, body, key)))
    headers = {"Location": answer.location}
    return Response(answer.body, answer.status, headers, media_type="application/json")


@pytest.fixture
def issuer() -> TestIssuer:
    return TestIssuer()


@pytest.fixture
async def client(issuer: TestIssuer) -> AsyncIterator[httpx.AsyncClient]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield

    fast = FastPost(TEMPLATE, "/wallets/([0-9]{1,3})/payments", Payment, pay, worded)
    app = build_app(
        service="sample",
        description="A sample.",
        settings=HttpSettings(body_bytes_max=1000),
        lifespan=lifespan,
        routers=[router],
        errors={OutOfStockError: 409},
        fast=fast,
    )
    app.state.tokens = issuer.verifier
    slow.clear()
    async with (
        serving(app, "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        yield client


def plain(issuer: TestIssuer) -> dict[str, str]:
    return {**issuer.headers(issuer.principal()), "Content-Type": "application/json"}


async def test_what_is_plainly_right_does_not_pass_through_fastapi(
    client: httpx.AsyncClient, issuer: TestIssuer
) -> None:
    labels = {"service": "sample", "method": "POST", "route": TEMPLATE, "status": "202"}
    before = REGISTRY.get_sample_value("memepool_http_requests_total", labels) or 0
    headers = plain(issuer) | {"Idempotency-Key": "k"}
    answer = await client.post(PATH, content=b'{"amount": 5}', headers=headers)
    assert (answer.status_code, answer.json()[:4]) == (202, ["7", 5, None, "k"])
    assert answer.headers["location"] == "/payments/1"
    assert answer.headers["x-request-id"]
    assert slow == []
    assert REGISTRY.get_sample_value("memepool_http_requests_total", labels) == before + 1


@pytest.mark.parametrize("memo", ["refuse", "wait", "crash"])
async def test_what_it_raises_is_answered_as_if_the_route_had_raised_it(
    client: httpx.AsyncClient, issuer: TestIssuer, memo: str
) -> None:
    body = {"amount": 5, "memo": memo}
    first, second = await both(client, PATH, orjson.dumps(body), plain(issuer))
    assert first == second
    assert slow == ["7"]
    assert first[0] == {"refuse": 409, "wait": 503, "crash": 500}[memo]


async def test_what_it_declines_is_done_by_the_route(
    client: httpx.AsyncClient, issuer: TestIssuer
) -> None:
    body = orjson.dumps({"amount": 5, "memo": "for the route"})
    first, second = await both(client, PATH, body, plain(issuer))
    assert first == second
    assert slow == ["7", "7"]


BODIES = [
    *(b"", b"{", b"[]", b"null", b"7", b'"x"', b"\xff", b'{"amount": 5} x', b"\x00"),
    *(b'{"amount": 5, "amount": 6}', b'{"amount": 5, "memo": null}', b'{"amount": NaN}'),
    *(b'{"amount": 1e2}', b'{"amount": 5.0}', b'{"amount": "5"}', b'{"amount": true}'),
    *(b'{"amount": 0}', b'{"amount": 2100000000000001}', b'{"amount": 1000000000000000000000}'),
    *(b'{"amount": 5, "memo": "\\ud800"}', b'{"amount": 5, "memo": "a\\u0000b"}'),
    *(b'{"amount": 5, "memo": "\xc3\xa9"}', b'{"amount": 5, "memo": "\xe9"}'),
    *(b'{"amount": 5, "other": 1}', b'\xef\xbb\xbf{"amount": 5}', b' {"amount":\n5} '),
    *('{"amount": 5}'.encode("utf-16"), b'{"amount": 05}', b'{"amount": +5}', b'{"amount": -0}'),
    b'{"amount": 5, "memo": "' + b"x" * 2_000 + b'"}',
    b'{"amount": 5, "memo": ' + b"[" * 400 + b"]" * 400 + b"}",
]


HEADERS: list[dict[str, Any]] = [
    {"Idempotency-Key": ""},
    {"Idempotency-Key": "x" * 255},
    {"Idempotency-Key": "x" * 256},
    {"Idempotency-Key": "a\tb"},
    {"Idempotency-Key": b"\xe9"},
    {"Content-Type": "application/json; charset=utf-8"},
    {"Content-Type": "text/plain"},
    {"Content-Type": "Application/JSON"},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer x"},
    {"Authorization": "bearer {token}"},
    {"Authorization": "Bearer  {token}"},
    {"Authorization": "Basic {token}"},
    {"X-Request-ID": "mine"},
    {"Content-Encoding": "gzip"},
]


async def test_any_body_is_answered_alike(client: httpx.AsyncClient, issuer: TestIssuer) -> None:
    for body in BODIES:
        first, second = await both(client, PATH, body, plain(issuer))
        assert first == second, body


async def test_any_header_is_answered_alike(client: httpx.AsyncClient, issuer: TestIssuer) -> None:
    for changed in HEADERS:
        headers = plain(issuer)
        token = headers["Authorization"].removeprefix("Bearer ")
        for name, value in changed.items():
            headers[name] = value.format(token=token) if isinstance(value, str) else value
        first, second = await both(client, PATH, b'{"amount": 5}', headers)
        assert first == second, changed


async def test_any_path_is_answered_alike(client: httpx.AsyncClient, issuer: TestIssuer) -> None:
    for path in ("/wallets/x/payments", "/wallets/-1/payments", f"{PATH}/", f"{PATH}?a=b"):
        first, second = await both(client, path, b'{"amount": 5}', plain(issuer))
        assert first == second, path


async def test_repeated_headers_and_ended_sessions_are_answered_alike(
    client: httpx.AsyncClient, issuer: TestIssuer
) -> None:
    twice = [*plain(issuer).items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    first, second = await both(client, PATH, b'{"amount": 5}', twice)
    assert first == second
    principal = issuer.principal()
    headers = {**issuer.headers(principal), "Content-Type": "application/json"}
    issuer.end(principal.session_id)
    first, second = await both(client, PATH, b'{"amount": 5}', headers)
    assert first == second
    assert (first[0], first[1]["code"]) == (401, "session_ended")


async def test_while_ended_sessions_are_not_known_nothing_is_written(
    client: httpx.AsyncClient, issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer.state, "_stale_after_s", -1.0)
    first, second = await both(client, PATH, b'{"amount": 5}', plain(issuer))
    assert first == second
    assert (first[0], first[1]["code"]) == (503, "auth_unavailable")


async def test_bodies_that_come_late_pipelined_requests_and_the_last_one_of_a_connection(
    client: httpx.AsyncClient, issuer: TestIssuer
) -> None:
    lines = [f"POST {PATH} HTTP/1.1", "Host: sample", "Content-Length: 13"]
    lines += [f"{name}: {value}" for name, value in plain(issuer).items()]
    head, body = "\r\n".join(lines).encode(), b'{"amount": 5}'
    port = client.base_url.port
    assert port is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head + b"\r\n\r\n" + body[:4])
    await writer.drain()
    await client.get("/")  # meanwhile the server serves others
    writer.write(body[4:] + head + b"\r\n\r\n" + body)
    for _ in range(2):
        status = await reader.readuntil(b"\r\n\r\n")
        assert status.startswith(b"HTTP/1.1 202 ")
        assert b"connection: close" not in status
        assert await reader.readexactly(len(b'["7",5,null,null,""]') + 36)
    writer.write(head + b"\r\nConnection: close\r\n\r\n" + body)
    last = await reader.read()
    assert (last.count(b"HTTP/1.1 202 "), last.count(b"connection: close")) == (1, 1)
    writer.close()
    _, gone = await asyncio.open_connection("127.0.0.1", port)
    gone.write(head + b"\r\n\r\n" + body)
    gone.close()
    assert (await client.post(PATH, content=body, headers=plain(issuer))).status_code == 202


async def both(
    client: httpx.AsyncClient, path: str, body: bytes, headers: Any
) -> tuple[tuple[int, Any, Any], tuple[int, Any, Any]]:
    """The answer of the short way, if it takes this, and that of the route."""
    answers = []
    for extra in ([], [("Prefer", "respond-async")]):
        sent = [*(headers.items() if isinstance(headers, dict) else headers), *extra]
        answer = await client.post(path, content=body, headers=sent)
        said = json.loads(answer.content)
        if isinstance(said, dict):
            del said["traceId"]
        kept = {"content-type", "location", "retry-after", "www-authenticate", "connection"}
        told = {name: value for name, value in answer.headers.items() if name in kept}
        answers.append((answer.status_code, said, told))
    return answers[0], answers[1]
