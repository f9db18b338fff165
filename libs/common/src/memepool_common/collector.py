"""Natural micro-batching: what arrived while the last batch committed is the next batch."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from memepool_common.events.errors import is_infrastructure
from memepool_common.web.problem import Problem

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH_MAX = 256
WAITING_MAX = 4_000


class _Waiting(NamedTuple, Generic[Item, Result]):
    item: Item
    future: asyncio.Future[Result]
    context: contextvars.Context


class Collector(Generic[Item, Result]):
    """Turns concurrent calls into batches, one at a time in flight.

    `process` gets the items and returns a result, or an exception to raise, for each of them; it
    owns its transaction. When it raises, the batch is split until the poisoned item stands alone;
    when infrastructure was lost, all its callers are told. A caller that goes away does not cancel
    the batch. A batch has the context of its first caller: its trace, its request id in logs.

    The least time between the starts of two batches, unless one is full, is `pace_s` after a small
    one and grows to `pace_full_s` after a full one. So batches grow before the machine is busy, and
    the more the busier it gets. What comes after a pause starts at once.
    """

    def __init__(
        self,
        process: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        batch_max: int = BATCH_MAX,
        waiting_max: int = WAITING_MAX,
        pace_s: float = 0.0,
        pace_full_s: float = 0.0,
    ) -> None:
        self._process = process
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._pace_s = pace_s
        self._pace_full_s = max(pace_s, pace_full_s)
        self._next_start_s = 0.0
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Result:
        """The item's result, once its batch has committed.

        Raises:
            Problem: 503 `overloaded` when too many are waiting.
        """
        return await self.enqueue(item)

    def enqueue(self, item: Item) -> asyncio.Future[Result]:
        """`submit` for a caller that is no task."""
        if len(self._waiting) >= self._waiting_max:
            detail = "Too many requests are waiting; try again."
            raise Problem(503, "overloaded", detail, headers={"Retry-After": "1"})
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(item, future, contextvars.copy_context()))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), name="collector")
        return future

    async def drain(self) -> None:
        """Wait until nothing is in flight."""
        if self._worker is not None:
            await asyncio.gather(self._worker, return_exceptions=True)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            if len(self._waiting) < self._batch_max and loop.time() < self._next_start_s:
                await asyncio.sleep(self._next_start_s - loop.time())
            size = min(len(self._waiting), self._batch_max)
            growth_s = (self._pace_full_s - self._pace_s) * size / self._batch_max
            self._next_start_s = loop.time() + self._pace_s + growth_s
            await self._settle([self._waiting.popleft() for _ in range(size)])

    async def _settle(self, batch: Sequence[_Waiting[Item, Result]]) -> None:
        try:
            processing = self._run([each.item for each in batch])
            results = await asyncio.create_task(processing, context=batch[0].context)
        except Exception as error:  # noqa: BLE001 - handed to the caller that it belongs to
            if len(batch) == 1 or is_infrastructure(error):
                for each in batch:
                    self._resolve(each.future, error)
                return
            middle = len(batch) // 2
            await self._settle(batch[:middle])
            await self._settle(batch[middle:])
            return
        for each, result in zip(batch, results, strict=True):
            self._resolve(each.future, result)

    async def _run(self, items: Sequence[Item]) -> Sequence[Result | Exception]:
        return await self._process(items)

    @staticmethod
    def _resolve(future: asyncio.Future[Result], result: Result | Exception) -> None:
        if future.done():
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
