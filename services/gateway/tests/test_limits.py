"""Counters of calls: one suite for both, and what is Redis's own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from memepool_gateway.limits.counter import Check, ClockMs, MemoryCounter, RateCounter
from memepool_gateway.limits.redis_counter import RedisCounter
from memepool_gateway.redis_client import RedisClient
from memepool_gateway.settings import RedisSettings
from memepool_sandbox.redis_server import PrivateRedis

WINDOW_MS = 60_000
START_MS = 1_000 * WINDOW_MS


@dataclass
class Clock:
    """Says the time that it is told."""

    now_ms: int = START_MS

    def __call__(self) -> int:
        return self.now_ms


OpenCounter = Callable[[ClockMs], AbstractAsyncContextManager[RateCounter]]


@contextlib.asynccontextmanager
async def redis_counter(url: str, clock: ClockMs) -> AsyncIterator[RedisCounter]:
    redis = RedisClient(RedisSettings(url=SecretStr(url), timeout_s=30.0))
    try:
        yield RedisCounter(redis, clock)
    finally:
        await redis.close()


@contextlib.asynccontextmanager
async def memory_counter(clock: ClockMs) -> AsyncIterator[MemoryCounter]:
    yield MemoryCounter(clock)


@pytest.fixture(params=["memory", "redis"])
def open_counter(request: pytest.FixtureRequest) -> OpenCounter:
    if request.param == "memory":
        return memory_counter
    url: str = request.getfixturevalue("redis_url")
    return lambda clock: redis_counter(url, clock)


async def allowed(counter: RateCounter, quota: int, key: str = "a") -> bool:
    (standing,) = await counter.hit([Check(key, quota, WINDOW_MS)])
    return standing.allowed


async def test_a_quota_is_used_up_and_told(open_counter: OpenCounter) -> None:
    async with open_counter(Clock()) as counter:
        found = [(await counter.hit([Check("a", 3, WINDOW_MS)]))[0] for _ in range(5)]
    assert [standing.allowed for standing in found] == [True, True, True, False, False]
    assert [standing.remaining for standing in found] == [2, 1, 0, 0, 0]
    assert found[0].reset_s == 60
    assert found[3].reset_s == found[4].reset_s  # a refused call costs nothing


async def test_the_window_slides(open_counter: OpenCounter) -> None:
    clock = Clock()
    async with open_counter(clock) as counter:
        for _ in range(10):
            assert await allowed(counter, 10)
        clock.now_ms += WINDOW_MS
        assert not await allowed(counter, 10)  # a turn of the window alone frees nothing
        clock.now_ms += WINDOW_MS // 2
        assert [await allowed(counter, 10) for _ in range(6)] == [True] * 5 + [False]
        clock.now_ms += 2 * WINDOW_MS
        assert [await allowed(counter, 10) for _ in range(11)] == [True] * 10 + [False]


@pytest.mark.parametrize(("quota", "moved_ms"), [(1, 0), (3, 20_000), (10, 59_999), (7, 1)])
async def test_who_waits_as_told_is_let_in(
    open_counter: OpenCounter, quota: int, moved_ms: int
) -> None:
    clock = Clock(START_MS + moved_ms)
    async with open_counter(clock) as counter:
        for _ in range(3):
            for _ in range(quota):
                await allowed(counter, quota)
            (refused,) = await counter.hit([Check("a", quota, WINDOW_MS)])
            assert not refused.allowed
            assert 1 <= refused.reset_s <= 120
            clock.now_ms += (refused.reset_s - 1) * 1_000 - 1
            assert not await allowed(counter, quota)
            clock.now_ms += 1_001
            assert await allowed(counter, quota)


async def test_keys_do_not_share(open_counter: OpenCounter) -> None:
    async with open_counter(Clock()) as counter:
        both = [Check("a", 1, WINDOW_MS), Check("b", 2, WINDOW_MS)]
        found = [await counter.hit(both) for _ in range(3)]
    assert [[standing.allowed for standing in standings] for standings in found] == [
        [True, True],
        [False, True],
        [False, False],
    ]


async def test_calls_at_once_are_all_counted(open_counter: OpenCounter) -> None:
    async with open_counter(Clock()) as counter:
        found = await asyncio.gather(*(allowed(counter, 50) for _ in range(200)))
    assert sum(found) == 50


async def test_a_clock_that_is_behind_frees_nothing(open_counter: OpenCounter) -> None:
    clock = Clock()
    async with open_counter(clock) as counter:
        assert await allowed(counter, 1)
        clock.now_ms -= 5 * WINDOW_MS
        (refused,) = await counter.hit([Check("a", 1, WINDOW_MS)])
    assert not refused.allowed
    assert refused.reset_s == 120


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # it empties Redis itself
@given(
    steps=st.lists(
        st.tuples(st.integers(0, WINDOW_MS), st.sampled_from("ab"), st.integers(1, 8)), max_size=30
    )
)
def test_both_count_alike(redis_url: str, steps: list[tuple[int, str, int]]) -> None:
    async def compare() -> None:
        clock = Clock()
        memory = MemoryCounter(clock)
        async with redis_counter(redis_url, clock) as shared:
            await shared._script.registered_client.flushdb()
            for moved_ms, key, quota in steps:
                clock.now_ms += moved_ms
                check = Check(key, quota, WINDOW_MS)
                assert await shared.hit([check]) == await memory.hit([check])

    asyncio.run(compare())


async def test_memory_is_bounded() -> None:
    counter = MemoryCounter(Clock(), keys_max=10)
    for number in range(100):
        assert await allowed(counter, 1, key=str(number))
    assert len(counter._windows) == 10
    assert not await allowed(counter, 1, key="99")


async def test_replicas_count_together(redis_url: str) -> None:
    clock = Clock()
    async with redis_counter(redis_url, clock) as one, redis_counter(redis_url, clock) as other:
        assert [await allowed(each, 3) for each in (one, other, one, other)] == [
            *(True, True, True),
            False,
        ]


async def test_counts_are_forgotten_in_time(redis_url: str) -> None:
    async with redis_counter(redis_url, Clock()) as counter:
        await allowed(counter, 3)
        (key,) = await counter._script.registered_client.keys()
        left_ms = await counter._script.registered_client.pttl(key)
    assert 0 < left_ms <= 2 * WINDOW_MS


async def test_without_redis_each_counts_alone_and_then_together_again(
    private_redis: PrivateRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memepool_gateway.limits.redis_counter.AWAY_S", 0.0)
    clock = Clock()
    async with (
        redis_counter(private_redis.url, clock) as one,
        redis_counter(private_redis.url, clock) as other,
    ):
        assert await allowed(one, 1, "k1")
        private_redis.stop()
        try:
            for each in (one, other):
                assert [await allowed(each, 2, "k2") for _ in range(3)] == [True, True, False]
        finally:
            private_redis.start()
        assert [await allowed(each, 1, "k3") for each in (one, other)] == [True, False]


async def test_a_redis_that_hangs_costs_one_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memepool_gateway.limits.redis_counter.AWAY_S", 60.0)
    connections = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = SecretStr(f"redis://127.0.0.1:{port}/0")
    redis = RedisClient(RedisSettings(url=url, timeout_s=0.2))
    counter = RedisCounter(redis, Clock())
    found = await asyncio.gather(*(allowed(counter, 5) for _ in range(500)))
    assert sum(found) == 5
    await redis.close()
    server.close()
    assert connections == 1
