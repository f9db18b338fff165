"""Natural micro-batching: what arrived while the last batch committed is the next batch."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from memepool_common.web.problem import Problem

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH_MAX = 256
WAITING_MAX = 4_000


class Collector(Generic[Item, Result]):
    """Turns concurrent calls into batches, one at a time in flight.

    `process` gets the items and returns a result, or an exception to raise, for each of them; it
    owns its transaction. When it raises, the batch is split until the poisoned item stands alone.
    A caller that goes away does not cancel the batch.
    """

    def __init__(
        self,
        process: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        batch_max: int = BATCH_MAX,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self._process = process
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Result:
        """The item's result, once its batch has committed.

        Raises:
            Problem: 503 `overloaded` when too many are waiting.
        """
        if len(self._waiting) >= self._waiting_max:
            detail = "Too many requests are waiting; try again."
            raise Problem(503, "overloaded", detail, headers={"Retry-After": "1"})
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), name="collector")
        return await future

    async def drain(self) -> None:
        """Wait until nothing is in flight."""
        if self._worker is not None:
            await asyncio.gather(self._worker, return_exceptions=True)

    async def _work(self) -> None:
        while self._waiting:
            size = min(len(self._waiting), self._batch_max)
            await self._settle([self._waiting.popleft() for _ in range(size)])

    async def _settle(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._process([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - handed to the caller that it belongs to
            if len(batch) == 1:
                self._resolve(batch[0][1], error)
                return
            middle = len(batch) // 2
            await self._settle(batch[:middle])
            await self._settle(batch[middle:])
            return
        for (_, future), result in zip(batch, results, strict=True):
            self._resolve(future, result)

    @staticmethod
    def _resolve(future: asyncio.Future[Result], result: Result | Exception) -> None:
        if future.done():
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
