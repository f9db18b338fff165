"""What our client adds to redis-py: limits in time, and no cancellation is lost."""

import asyncio
import contextlib

import pytest
from pydantic import SecretStr

from memepool_gateway.redis_client import RedisAwayError, RedisClient
from memepool_gateway.settings import RedisSettings


@pytest.mark.parametrize("steps", range(40))
async def test_whoever_asks_can_be_cancelled_at_any_moment(redis_url: str, steps: int) -> None:
    redis = RedisClient(RedisSettings(url=SecretStr(redis_url), timeout_s=30.0))
    asked = 0

    async def ask_for_ever() -> None:
        nonlocal asked
        while True:
            await redis.ask(lambda: redis.commands.get("memepool:none"))
            asked += 1

    task = asyncio.create_task(ask_for_ever())
    while not asked:
        await asyncio.sleep(0)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(60):
        await asyncio.wait({task})
    await redis.close()


async def test_an_answer_that_does_not_come_in_time(redis_url: str) -> None:
    redis = RedisClient(RedisSettings(url=SecretStr(redis_url), timeout_s=0.1))
    with pytest.raises(RedisAwayError, match="TimeoutError"):
        await redis.ask(lambda: redis.commands.xread({"memepool:none": "$"}, block=60_000))
    xread = redis.commands.xread
    assert not await redis.ask(lambda: xread({"memepool:none": "$"}, block=200), wait_s=20)
    await redis.close()


async def test_more_who_ask_than_there_are_connections(redis_url: str) -> None:
    settings = RedisSettings(url=SecretStr(redis_url), timeout_s=30.0, connections_max=2)
    redis = RedisClient(settings)
    answers = [redis.ask(lambda: redis.commands.echo("here")) for _ in range(50)]
    assert await asyncio.gather(*answers) == [b"here"] * 50
    await redis.close()


async def test_a_connection_that_is_not_free_in_time(redis_url: str) -> None:
    settings = RedisSettings(url=SecretStr(redis_url), timeout_s=0.1, connections_max=1)
    redis = RedisClient(settings)
    xread = redis.commands.xread
    held = asyncio.create_task(
        redis.ask(lambda: xread({"memepool:none": "$"}, block=60_000), wait_s=60)
    )
    await asyncio.sleep(0)  # it has the only one now
    with pytest.raises(RedisAwayError, match="TimeoutError"):
        await redis.ask(lambda: redis.commands.echo("here"))
    held.cancel()
    await asyncio.wait({held})
    while True:  # the one that is free again may be slow to connect
        with contextlib.suppress(RedisAwayError):
            assert await redis.ask(lambda: redis.commands.echo("here")) == b"here"
            break
    await redis.close()
