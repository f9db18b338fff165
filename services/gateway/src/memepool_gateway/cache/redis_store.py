"""The store that all replicas share, in Redis. While that is away each process keeps its own."""

import time

import orjson
import structlog
from prometheus_client import Gauge

from memepool_gateway.cache.store import CacheStore, MemoryStore, Stored
from memepool_gateway.redis_client import RedisAwayError, RedisClient

KEY_PREFIX = "memepool:{cache}:"
AWAY_S = 1.0
ALONE = Gauge("memepool_gateway_cache_alone", "1 while Redis is away and each process caches")
log = structlog.get_logger(__name__)


class RedisStore:
    """One string per target: a line of JSON with the headers, then the body."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self._alone: CacheStore = MemoryStore()
        self._away_until_s = 0.0

    async def get(self, target: str) -> Stored | None:
        """The answer, if it is still alive."""
        commands = self._redis.commands
        if time.monotonic() >= self._away_until_s:
            try:
                found = await self._redis.ask(lambda: commands.get(KEY_PREFIX + target))
            except RedisAwayError as error:
                self._lost(error)
            else:
                ALONE.set(0)
                return _unpack(found) if isinstance(found, bytes) else None
        return await self._alone.get(target)

    async def put(self, target: str, answer: Stored, life_s: float) -> None:
        """Keep an answer for so long."""
        commands = self._redis.commands
        if time.monotonic() >= self._away_until_s:
            try:
                life_ms = round(life_s * 1_000)
                key, packed = KEY_PREFIX + target, _pack(answer)
                await self._redis.ask(lambda: commands.set(key, packed, px=life_ms))
            except RedisAwayError as error:
                self._lost(error)
            else:
                return
        await self._alone.put(target, answer, life_s)

    def _lost(self, error: Exception) -> None:
        self._away_until_s = time.monotonic() + AWAY_S
        ALONE.set(1)
        log.warning("cache_alone", error=repr(error))


def _pack(answer: Stored) -> bytes:
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers]
    return orjson.dumps(headers) + b"\n" + answer.body


def _unpack(packed: bytes) -> Stored:
    head, _, body = packed.partition(b"\n")
    headers = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in orjson.loads(head)
    ]
    return Stored(tuple(headers), body)
