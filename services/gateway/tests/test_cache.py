"""Answers kept for a moment: one suite for both stores, then what the gateway does with them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from pydantic import SecretStr
from starlette.types import Receive, Scope, Send

from memepool_gateway.cache import CacheStore, MemoryStore, ReadCache, Stored
from memepool_gateway.cache.redis_store import RedisStore
from memepool_gateway.redis_client import RedisClient
from memepool_gateway.settings import RedisSettings
from memepool_sandbox.redis_server import PrivateRedis
from services.gateway.tests.harness import Echo, Gateway, StartGateway, upstream_of

HEADERS = ((b"content-type", b"application/json"), (b"x-odd", b"caf\xe9"))
ANSWER = Stored(HEADERS, b'{"a":\n1}\x00\xff')
LONG_S = 60.0
SIZED = [(b"content-type", b"application/json"), (b"content-length", b"11")]
OpenStore = Callable[[], AbstractAsyncContextManager[CacheStore]]


@contextlib.asynccontextmanager
async def redis_store(url: str) -> AsyncIterator[RedisStore]:
    redis = RedisClient(RedisSettings(url=SecretStr(url), timeout_s=30.0))
    try:
        yield RedisStore(redis)
    finally:
        await redis.close()


@contextlib.asynccontextmanager
async def memory_store() -> AsyncIterator[MemoryStore]:
    yield MemoryStore()


@pytest.fixture(params=["memory", "redis"])
def open_store(request: pytest.FixtureRequest) -> OpenStore:
    if request.param == "memory":
        return memory_store
    url: str = request.getfixturevalue("redis_url")
    return lambda: redis_store(url)


async def test_an_answer_is_kept_byte_for_byte(open_store: OpenStore) -> None:
    async with open_store() as store:
        assert await store.get("/rounds/1") is None
        await store.put("/rounds/1", ANSWER, LONG_S)
        assert await store.get("/rounds/1") == ANSWER
        assert await store.get("/rounds/1?limit=1") is None
        newer = Stored((), b"")
        await store.put("/rounds/1", newer, LONG_S)
        assert await store.get("/rounds/1") == newer


async def test_an_answer_dies(open_store: OpenStore) -> None:
    async with open_store() as store:
        await store.put("/rounds/1", ANSWER, 0.05)
        async with asyncio.timeout(30):
            while await store.get("/rounds/1") is not None:
                await asyncio.sleep(0.01)


async def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    store = MemoryStore(bytes_max=10_000)
    for number in range(8):
        await store.put(f"/{number}", Stored((), bytes(2_000)), LONG_S)
    await store.put("/7", Stored((), bytes(2_000)), LONG_S)  # again: it is counted once
    kept = [number for number in range(8) if await store.get(f"/{number}")]
    assert kept == [4, 5, 6, 7]


async def test_replicas_share_what_is_in_redis_and_keep_their_own_without_it(
    private_redis: PrivateRedis,
) -> None:
    async with redis_store(private_redis.url) as one, redis_store(private_redis.url) as other:
        await one.put("/rounds/1", ANSWER, LONG_S)
        assert await other.get("/rounds/1") == ANSWER
        private_redis.stop()
        try:
            assert await one.get("/rounds/1") is None
            await one.put("/rounds/1", ANSWER, LONG_S)
            assert await one.get("/rounds/1") == ANSWER
            assert await other.get("/rounds/1") is None
        finally:
            private_redis.start()


async def test_those_who_ask_together_ask_once() -> None:
    cache = ReadCache(MemoryStore(), LONG_S)
    asked = 0
    go = asyncio.Event()

    async def fetch() -> Stored:
        nonlocal asked
        asked += 1
        await go.wait()
        return ANSWER

    together = [asyncio.create_task(cache.answer("/rounds/1", fetch)) for _ in range(20)]
    while asked == 0:
        await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(*together) == [ANSWER] * 20
    assert asked == 1


async def test_who_leaves_and_who_fails_takes_nobody_along() -> None:
    cache = ReadCache(MemoryStore(), LONG_S)
    asked = 0
    never = asyncio.Event()

    async def stuck() -> Stored:
        nonlocal asked
        asked += 1
        await never.wait()
        return ANSWER

    async def failing() -> Stored:
        raise ConnectionError

    async def good() -> Stored:
        return ANSWER

    for first in (stuck, failing):
        leader = asyncio.create_task(cache.answer("/rounds/1", first))
        follower = asyncio.create_task(cache.answer("/rounds/1", good))
        while first is stuck and asked == 0:
            await asyncio.sleep(0)
        if first is stuck:
            leader.cancel()
        assert await follower == ANSWER
        with pytest.raises((asyncio.CancelledError, ConnectionError)):
            await leader


async def test_public_reads_are_shared_and_still_counted(start_gateway: StartGateway) -> None:
    echo = Echo(headers=SIZED)
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        answers = [await gateway.client.get("/rounds/current") for _ in range(3)]
        again = await gateway.client.get("/v1/rounds/current")
    assert [answer.json() for answer in (*answers, again)] == [{"ok": True}] * 4
    assert len(echo.seen) == 1
    left = {answer.headers["RateLimit"] for answer in answers}
    assert len(left) == 3
    assert len({answer.headers["X-Request-Id"] for answer in answers}) == 3


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/rounds/1/votes", {}),
        ("GET", "/payments/reserves", {}),
        ("HEAD", "/rounds/1", {}),
        ("GET", "/rounds/1", {"Range": "bytes=0-1"}),
        ("GET", "/rounds/1", {"If-None-Match": '"x"'}),
        ("GET", "/rounds/1", {"Cookie": "a=b"}),
        ("GET", "/rounds/1", {"Cache-Control": "no-cache"}),
    ],
)
async def test_what_is_of_one_client_is_asked_each_time(
    start_gateway: StartGateway, method: str, path: str, headers: dict[str, str]
) -> None:
    echo = Echo(headers=SIZED)
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        for _ in range(2):
            await gateway.client.request(method, path, headers=headers)
    assert len(echo.seen) == 2


async def test_who_has_a_token_sees_what_they_have_just_done(start_gateway: StartGateway) -> None:
    echo = Echo(headers=SIZED)
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        headers = gateway.issuer.headers(gateway.issuer.principal())
        await gateway.client.get("/rounds/1")
        echo.body = [b'{"ok":null}']
        fresh = await gateway.client.get("/rounds/1", headers=headers)
    assert fresh.json() == {"ok": None}


@pytest.mark.parametrize(
    "echo",
    [
        Echo(status=404, headers=SIZED),
        Echo(),  # no length: it may be of any size
        Echo(headers=[*SIZED, (b"set-cookie", b"a=b")]),
        Echo(headers=[*SIZED, (b"vary", b"accept")]),
        Echo(headers=[*SIZED, (b"cache-control", b"No-Store")]),
        Echo(
            headers=[(b"content-length", b"300000")],
            body=[b"x" * 300_000],
        ),
    ],
    ids=["status", "length", "cookie", "vary", "no-store", "large"],
)
async def test_answers_that_are_not_for_everybody_are_relayed(
    start_gateway: StartGateway, echo: Echo
) -> None:
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        answers = [await gateway.client.get("/rounds/1") for _ in range(2)]
    assert [answer.content for answer in answers] == [b"".join(echo.body)] * 2
    assert [answer.status_code for answer in answers] == [echo.status] * 2
    assert len(echo.seen) == 2


async def test_an_answer_that_breaks_off_is_a_problem_for_each(start_gateway: StartGateway) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await Echo()(scope, receive, send)
            return
        start = {"type": "http.response.start", "status": 200}
        await send(start | {"headers": [(b"content-length", b"100")]})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ConnectionError

    async with upstream_of(broken) as url, start_gateway(url) as gateway:
        answers = await asyncio.gather(*(_read(gateway) for _ in range(3)))
    assert answers == [(502, "service_failed")] * 3


async def _read(gateway: Gateway) -> tuple[int, str]:
    answer = await gateway.client.get("/rounds/current")
    return answer.status_code, answer.json()["code"]
