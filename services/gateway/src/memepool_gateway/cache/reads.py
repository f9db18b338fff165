"""One question to a service for all who ask the same at the same time, and shortly after."""

import asyncio
from collections.abc import Awaitable, Callable

from prometheus_client import Counter

from memepool_gateway.cache.store import CacheStore, Stored

READS = Counter(
    "memepool_gateway_cached_reads_total", "Public reads by where they came from", ["from"]
)

Fetch = Callable[[], Awaitable[Stored | None]]


class ReadCache:
    """Keeps answers for `life_s`; nothing invalidates them, so a read may be that much behind.

    Of those who miss the same answer together, one fetches it and the others wait. What a fetch
    does not give (an error, an answer that is too large) each of them then fetches by itself.
    """

    def __init__(self, store: CacheStore, life_s: float) -> None:
        self._store = store
        self._life_s = life_s
        self._flights: dict[str, asyncio.Future[Stored | None]] = {}

    async def answer(self, target: str, fetch: Fetch) -> Stored | None:
        """The answer to a request without a token, or None when `fetch` gave none.

        Args:
            target: path and query of the request.
            fetch: asks the service; returns what may be given to others, too.
        """
        kept = await self._store.get(target)
        if kept is not None:
            READS.labels("cache").inc()
            return kept
        flight = self._flights.get(target)
        if flight is not None:
            shared = await asyncio.shield(flight)
            if shared is not None:
                READS.labels("flight").inc()
                return shared
        READS.labels("service").inc()
        if flight is not None:
            return await fetch()
        return await self._lead(target, fetch)

    async def _lead(self, target: str, fetch: Fetch) -> Stored | None:
        flight = self._flights[target] = asyncio.get_running_loop().create_future()
        fetched = None
        try:
            fetched = await fetch()
            if fetched is not None:
                await self._store.put(target, fetched, self._life_s)
        finally:
            del self._flights[target]
            flight.set_result(fetched)
        return fetched
