"""Micro-batches: what arrives while a batch is in flight is the next batch."""

import asyncio
import contextvars
from collections.abc import Sequence

import pytest

from memepool_common.collector import Collector
from memepool_common.web.problem import Problem


class Recorder:
    """Doubles numbers, batch by batch, when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()

    async def process(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(items))
        await self.gate.wait()
        if 13 in items:
            raise ArithmeticError("no thirteen")
        return [LookupError(str(item)) if item < 0 else 2 * item for item in items]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


async def test_the_first_goes_alone_and_the_rest_together(recorder: Recorder) -> None:
    collector: Collector[int, int] = Collector(recorder.process)
    first = asyncio.create_task(collector.submit(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(collector.submit(number)) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    recorder.gate.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6, 8]
    assert recorder.batches == [[1], [2, 3, 4]]


async def test_no_batch_is_larger_than_allowed(recorder: Recorder) -> None:
    recorder.gate.set()
    collector: Collector[int, int] = Collector(recorder.process, batch_max=10)
    await asyncio.gather(*(collector.submit(number) for number in range(100, 135)))
    assert [len(batch) for batch in recorder.batches] == [10, 10, 10, 5]


async def test_a_poisoned_item_fails_alone(recorder: Recorder) -> None:
    recorder.gate.set()
    collector: Collector[int, int] = Collector(recorder.process)
    numbers = [10, 11, 12, 13, 14]
    results = await asyncio.gather(*map(collector.submit, numbers), return_exceptions=True)
    assert isinstance(results[3], ArithmeticError)
    assert [result for result in results if isinstance(result, int)] == [20, 22, 24, 28]


async def test_a_refusal_reaches_its_own_caller(recorder: Recorder) -> None:
    recorder.gate.set()
    collector: Collector[int, int] = Collector(recorder.process)
    results = await asyncio.gather(*map(collector.submit, [1, -1]), return_exceptions=True)
    assert results[0] == 2
    assert isinstance(results[1], LookupError)


async def test_a_caller_that_goes_away_cancels_nothing(recorder: Recorder) -> None:
    collector: Collector[int, int] = Collector(recorder.process)
    leaving = asyncio.create_task(collector.submit(1))
    staying = asyncio.create_task(collector.submit(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    leaving.cancel()
    recorder.gate.set()
    assert await staying == 4
    await collector.drain()
    assert recorder.batches == [[1, 2]]


async def test_too_many_waiting_are_turned_away(recorder: Recorder) -> None:
    collector: Collector[int, int] = Collector(recorder.process, batch_max=1, waiting_max=2)
    accepted = [asyncio.create_task(collector.submit(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(Problem) as refusal:
        await collector.submit(3)
    assert (refusal.value.status, refusal.value.code) == (503, "overloaded")
    recorder.gate.set()
    assert await asyncio.gather(*accepted) == [2, 4]


async def test_with_a_pace_what_comes_in_quick_succession_goes_together(
    recorder: Recorder,
) -> None:
    recorder.gate.set()
    collector: Collector[int, int] = Collector(recorder.process, batch_max=4, pace_s=30)
    assert await collector.submit(1) == 2  # after a pause: at once
    waiting = [asyncio.create_task(collector.submit(number)) for number in (2, 3)]
    await asyncio.sleep(0.05)
    assert recorder.batches == [[1]]
    for each in waiting:
        each.cancel()
    full: Collector[int, int] = Collector(recorder.process, batch_max=2, pace_s=30)
    await full.submit(1)
    await asyncio.gather(full.submit(2), full.submit(3))  # a full batch does not wait
    assert recorder.batches == [[1], [1], [2, 3]]


async def test_the_pace_grows_with_the_batches(recorder: Recorder) -> None:
    recorder.gate.set()
    loop = asyncio.get_running_loop()
    collector: Collector[int, int] = Collector(
        recorder.process, batch_max=4, pace_s=0.0, pace_full_s=0.2
    )
    for size in (1, 2):
        began_s = loop.time()
        await asyncio.gather(*map(collector.submit, range(size)))
        assert await collector.submit(9) == 18
        assert loop.time() - began_s >= size * 0.05 - 0.005  # the clock's grain
        await asyncio.sleep(0.06)  # the pace of the last one


async def test_when_infrastructure_is_lost_all_are_told_and_nobody_tries_on() -> None:
    tries = 0

    async def lose(items: Sequence[int]) -> Sequence[int]:
        nonlocal tries
        tries += 1
        raise ConnectionResetError

    collector: Collector[int, int] = Collector(lose)
    results = await asyncio.gather(*map(collector.submit, range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionResetError] * 5
    assert tries == 1


async def test_a_batch_has_the_context_of_its_first_caller() -> None:
    caller: contextvars.ContextVar[int] = contextvars.ContextVar("caller")
    seen: list[int] = []

    async def process(items: Sequence[int]) -> Sequence[int]:
        seen.append(caller.get())
        return items

    collector: Collector[int, int] = Collector(process)

    async def call(number: int) -> None:
        caller.set(number)
        await collector.submit(number)

    await asyncio.create_task(call(1))
    await asyncio.gather(*map(asyncio.create_task, map(call, (2, 3))))
    assert seen == [1, 2]
