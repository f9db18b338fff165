"""Stores of the stream: one suite for both, and what is Redis's own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from pydantic import SecretStr

from memepool_common.testing import until
from memepool_gateway.settings import RedisSettings, StreamSettings
from memepool_gateway.stream import MemoryStream, RedisStream, StreamStore
from memepool_gateway.stream import redis_store as module
from memepool_gateway.stream.store import (
    ENTRY_OVERHEAD_BYTES,
    Draft,
    Entry,
    HistoryGone,
    NotTheWriterError,
    Position,
    StreamUnavailableError,
)
from memepool_sandbox.redis_server import PrivateRedis

OpenStore = Callable[..., StreamStore]


@pytest_asyncio.fixture
async def open_redis(redis_url: str) -> AsyncIterator[Callable[..., RedisStream]]:
    """`open_redis(history_entries_max=3)`: one more store on the same Redis."""
    async with AsyncExitStack() as stack:

        def open_one(**settings: int) -> RedisStream:
            redis = RedisSettings(url=SecretStr(redis_url), timeout_s=30.0)
            store = RedisStream(redis, StreamSettings(**settings))
            stack.push_async_callback(store.close)
            return store

        yield open_one


@pytest.fixture(params=["memory", "redis"])
def open_store(request: pytest.FixtureRequest) -> OpenStore:
    if request.param == "redis":
        opener: OpenStore = request.getfixturevalue("open_redis")
        return opener
    return lambda **settings: MemoryStream(StreamSettings(**settings))


def draft(number: int, audience: frozenset[UUID] | None = None) -> Draft:
    return Draft("round.opened", audience, b'{"number":%d}' % number)


def numbers(entries: object) -> list[int]:
    assert isinstance(entries, list)
    return [int(entry.data.decode().removeprefix('{"number":')[:-1]) for entry in entries]


async def test_what_is_appended_is_read_in_order(open_store: OpenStore) -> None:
    store = open_store()
    start = await store.latest()
    users = frozenset({uuid4(), uuid4()})
    await store.append([draft(1), draft(2, users)])
    await store.append([draft(3)])
    entries = await store.read(start, size_max=10)
    assert numbers(entries) == [1, 2, 3]
    assert [entry.audience for entry in entries] == [None, users, None]
    assert entries[0] == Entry(entries[0].position, "round.opened", None, b'{"number":1}')
    assert [entry.position.sequence for entry in entries] == [1, 2, 3]
    assert {entry.position.epoch_ms for entry in entries} == {start.epoch_ms}
    assert await store.latest() == entries[-1].position
    assert numbers(await store.read(entries[0].position, size_max=1)) == [2]
    assert await store.read(entries[-1].position, size_max=10) == []


async def test_a_reader_waits_for_the_next(open_store: OpenStore) -> None:
    store = open_store()
    start = await store.latest()
    assert await store.read(start, size_max=10, wait_s=0.05) == []
    reading = asyncio.create_task(store.read(start, size_max=10, wait_s=10))
    await asyncio.sleep(0.05)
    assert not reading.done()
    await store.append([draft(1)])
    assert numbers(await reading) == [1]


async def test_history_is_bounded_by_entries(open_store: OpenStore) -> None:
    store = open_store(history_entries_max=3)
    start = await store.latest()
    await store.append([draft(number) for number in (1, 2, 3)])
    entries = await store.read(start, size_max=10)
    assert len(entries) == 3
    await store.append([draft(4)])
    with pytest.raises(HistoryGone):
        await store.read(start, size_max=10)
    assert numbers(await store.read(entries[0].position, size_max=10)) == [2, 3, 4]
    await store.append([draft(number) for number in range(5, 50)])
    with pytest.raises(HistoryGone):
        await store.read(entries[-1].position, size_max=10)
    last = await store.latest()
    kept = await store.read(last._replace(sequence=last.sequence - 3), size_max=10)
    assert numbers(kept) == [47, 48, 49]


async def test_history_is_bounded_by_bytes(open_store: OpenStore) -> None:
    size_bytes = ENTRY_OVERHEAD_BYTES + len(draft(1).data)
    store = open_store(history_bytes_max=2 * size_bytes)
    await store.append([draft(number) for number in range(1, 10)])
    last = await store.latest()
    kept = await store.read(last._replace(sequence=last.sequence - 2), size_max=10)
    assert numbers(kept) == [8, 9]
    with pytest.raises(HistoryGone):
        await store.read(last._replace(sequence=last.sequence - 3), size_max=10)
    await store.append([Draft("round.opened", None, b"x" * 10 * size_bytes)])
    assert len(await store.read(last, size_max=10)) == 1  # the newest stays in any case


@pytest.mark.parametrize(
    "foreign", [Position(0, 0), Position(1, 1), Position(9_999_999_999_999_999, 1)]
)
async def test_a_position_of_another_life_is_a_gap(
    open_store: OpenStore, foreign: Position
) -> None:
    store = open_store()
    await store.append([draft(1)])
    last = await store.latest()
    for position in (foreign, last._replace(sequence=9), last._replace(epoch_ms=1)):
        with pytest.raises(HistoryGone):
            await store.read(position, size_max=10, wait_s=5)


async def test_an_event_is_told_once(open_store: OpenStore) -> None:
    store = open_store()
    start = await store.latest()
    first, second = uuid4(), uuid4()
    await store.append([draft(1), draft(2)], first)
    await store.append([draft(1), draft(2)], first)
    await store.append([], second)
    await store.append([draft(3)], second)
    await store.append([draft(4)])
    await store.append([draft(4)])
    assert numbers(await store.read(start, size_max=10)) == [1, 2, 3, 4, 4]


async def test_known_events_are_bounded(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module_name in ("store", "redis_store"):
        monkeypatch.setattr(f"memepool_gateway.stream.{module_name}.REMEMBERED_MAX", 2)
    store = open_store()
    start = await store.latest()
    events = [uuid4() for _ in range(3)]
    for number, event in enumerate(events):
        await store.append([draft(number)], event)
    for number, event in enumerate(events):
        await store.append([draft(10 + number)], event)
    assert numbers(await store.read(start, size_max=10))[:4] == [0, 1, 2, 10]


async def test_the_writer_may_write(open_store: OpenStore) -> None:
    store = open_store()
    assert await store.hold()
    assert await store.hold()
    await store.append([draft(1)])


async def test_what_one_process_writes_all_read(open_redis: Callable[..., RedisStream]) -> None:
    writer, reader = open_redis(), open_redis()
    start = await reader.latest()
    event = uuid4()
    await writer.append([draft(1)], event)
    assert numbers(await reader.read(start, size_max=10)) == [1]
    assert await reader.latest() == await writer.latest()


async def test_one_process_writes_and_another_takes_over_where_it_ended(
    open_redis: Callable[..., RedisStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE_MS", 2_000)
    first, second = open_redis(), open_redis()
    start = await first.latest()
    event = uuid4()
    assert await first.hold()
    await first.append([draft(1)], event)
    assert not await second.hold()
    with pytest.raises(NotTheWriterError):
        await second.append([draft(2)])
    async with asyncio.timeout(60):
        while not await second.hold():
            await asyncio.sleep(0.01)
    await second.append([draft(1)], event)  # delivered again, as the first one died
    await second.append([draft(2)])
    with pytest.raises(NotTheWriterError):
        await first.append([draft(3)])
    assert numbers(await first.read(start, size_max=10)) == [1, 2]


async def test_a_redis_that_lost_everything_begins_anew(
    open_redis: Callable[..., RedisStream],
) -> None:
    store = open_redis()
    await store.append([draft(1)], uuid4())
    before = await store.latest()
    await store._redis.commands.flushdb()

    async def later() -> bool:  # an epoch is a millisecond
        seconds, microseconds = await store._redis.commands.time()
        return bool(seconds * 1000 + microseconds // 1000 > before.epoch_ms)

    await until(later)
    with pytest.raises(HistoryGone):
        await store.read(before, size_max=10, wait_s=0.05)
    after = await store.latest()
    assert after.epoch_ms > before.epoch_ms
    assert await store.read(after, size_max=10) == []
    await store.append([draft(2)])
    assert numbers(await store.read(after, size_max=10)) == [2]


async def test_a_redis_that_lost_its_last_moments_begins_anew(
    open_redis: Callable[..., RedisStream],
) -> None:
    store = open_redis()
    await store.append([draft(1)])
    before = await store.latest()
    await store.append([draft(2)])
    lost = await store.latest()
    await store._redis.commands.xdel(module.STREAM, str(lost))
    with pytest.raises(HistoryGone):
        await store.read(lost, size_max=10)
    await store.append([draft(3)])
    for position in (before, lost):  # the number of the lost entry is not given out again
        with pytest.raises(HistoryGone):
            await store.read(position, size_max=10)
    last = await store.latest()
    assert numbers(await store.read(last._replace(sequence=0), size_max=10)) == [3]


async def test_a_redis_that_is_killed_and_started_again(private_redis: PrivateRedis) -> None:
    settings = RedisSettings(url=SecretStr(private_redis.url))
    store = RedisStream(settings, StreamSettings())
    await store._redis.commands.flushdb()
    await store.append([draft(1)])
    before = await store.latest()
    reading = asyncio.create_task(store.read(before, size_max=10, wait_s=30))
    await asyncio.sleep(0.05)
    private_redis.stop()
    try:
        with pytest.raises(StreamUnavailableError):
            await reading
        for call in (store.append([draft(2)]), store.latest(), store.hold()):
            with pytest.raises(StreamUnavailableError):
                await call
    finally:
        private_redis.start()
    after = await store.latest()
    await store.append([draft(2)])
    assert numbers(await store.read(after, size_max=10)) == [2]
    with pytest.raises(HistoryGone):
        await store.read(before, size_max=10)
    await store.close()
