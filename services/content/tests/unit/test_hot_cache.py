"""Hot values: single flight, a short life, a bound."""

import asyncio

import pytest

from memepool_content.adapters.hot_cache import HotCache


class Source:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.reads: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, key: str) -> str:
        self.reads.append(key)
        await self.gate.wait()
        if key == "bad":
            raise LookupError(key)
        return f"{key}{len(self.reads)}"

    def cache(self, weight_max: int = 100) -> HotCache[str, str]:
        return HotCache(
            self.read, len, lifetime_s=1.0, weight_max=weight_max, clock=lambda: self.now_s
        )


async def test_a_value_lives_from_before_its_reading() -> None:
    source = Source()
    cache = source.cache()
    assert cache.peek("a") is None
    assert [await cache.get("a") for _ in range(3)] == ["a1"] * 3
    assert cache.peek("a") == "a1"
    source.now_s = 0.999
    assert await cache.get("a") == "a1"
    source.now_s = 1.0
    assert cache.peek("a") is None
    assert await cache.get("a") == "a2"


async def test_one_reads_for_all_and_may_go_away() -> None:
    source = Source()
    cache = source.cache()
    source.gate.clear()
    asked = [asyncio.create_task(cache.get("a")) for _ in range(5)]
    await asyncio.sleep(0)
    asked[0].cancel()
    await asyncio.sleep(0)
    source.gate.set()
    assert await asyncio.gather(*asked[1:]) == ["a1"] * 4
    assert asked[0].cancelled()


async def test_failures_are_told_to_all_and_not_kept() -> None:
    source = Source()
    cache = source.cache()
    asked = await asyncio.gather(*(cache.get("bad") for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in asked] == [LookupError] * 3
    with pytest.raises(LookupError):
        await cache.get("bad")
    assert source.reads == ["bad", "bad"]


async def test_the_oldest_make_room() -> None:
    source = Source()
    cache = source.cache(weight_max=6)
    for key in ("a", "b", "c", "d"):
        await cache.get(key)
    assert [cache.peek(key) for key in ("a", "b", "c", "d")] == [None, "b2", "c3", "d4"]
