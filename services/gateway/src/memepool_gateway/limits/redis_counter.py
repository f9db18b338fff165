"""The counter that all replicas share, in Redis.

What arrives while the last script runs is the next one's work: a round trip for each call would
cost more than all the rest that the gateway does for it.
"""

import time
from collections.abc import Sequence

import structlog
from prometheus_client import Gauge

from memepool_common.collector import Collector
from memepool_gateway.limits.counter import (
    Check,
    ClockMs,
    MemoryCounter,
    RateCounter,
    Standing,
    Window,
    standing_of,
    wall_clock_ms,
)
from memepool_gateway.redis_client import RedisAwayError, RedisClient

KEY_PREFIX = "memepool:{limits}:"
AWAY_S = 1.0
log = structlog.get_logger(__name__)

ALONE = Gauge("memepool_gateway_limits_alone", "1 while Redis is away and each process counts")

# KEYS: whose calls. ARGV: now in ms, then of each key the quota and the window's length in ms.
# Gives of each key: whether the call was counted, and the window as it is then. The arithmetic is
# that of `Window`.
SCRIPT = """
local now, found = tonumber(ARGV[1]), {}
for i, key in ipairs(KEYS) do
  local quota, length = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local kept = redis.call('GET', key) or '0 0 0'
  local at, count, before = string.match(kept, '(%d+) (%d+) (%d+)')
  at, count, before = tonumber(at), tonumber(count), tonumber(before)
  local index = math.max(at, math.floor(now / length))
  if index == at + 1 then
    count, before = 0, count
  elseif index ~= at then
    count, before = 0, 0
  end
  local left = math.min(length, (index + 1) * length - now)
  local allowed = before * left / length + count + 1 <= quota
  if allowed then
    count = count + 1
    redis.call('SET', key, string.format('%d %d %d', index, count, before), 'PX', 2 * length)
  end
  found[i] = {allowed and 1 or 0, index, count, before}
end
return found
"""


class RedisCounter:
    """Counts in Redis; while that is away this process counts by itself, so nobody is refused
    for want of Redis, and what a client may do at most is the limit times the replicas.
    """

    def __init__(self, redis: RedisClient, now_ms: ClockMs = wall_clock_ms) -> None:
        self._redis = redis
        self._script = redis.commands.register_script(SCRIPT)
        self._now_ms = now_ms
        self._alone: RateCounter = MemoryCounter(now_ms)
        self._away_until_s = 0.0
        self._collector = Collector[Sequence[Check], Sequence[Standing]](self._count_all)

    async def hit(self, checks: Sequence[Check]) -> Sequence[Standing]:
        """Count a call."""
        return await self._collector.submit(checks)

    async def _count_all(self, calls: Sequence[Sequence[Check]]) -> Sequence[Sequence[Standing]]:
        if time.monotonic() >= self._away_until_s:
            try:
                counted = await self._count_in_redis([check for call in calls for check in call])
            except RedisAwayError as error:
                self._away_until_s = time.monotonic() + AWAY_S
                ALONE.set(1)
                log.warning("limits_alone", error=repr(error))
            else:
                ALONE.set(0)
                standings = iter(counted)
                return [[next(standings) for _ in call] for call in calls]
        return [await self._alone.hit(call) for call in calls]

    async def _count_in_redis(self, checks: Sequence[Check]) -> Sequence[Standing]:
        now_ms = self._now_ms()
        arguments = [now_ms]
        for check in checks:
            arguments += [check.quota, check.window_ms]
        keys = [KEY_PREFIX + check.key for check in checks]
        found = await self._redis.ask(lambda: self._script(keys=keys, args=arguments))
        return [
            standing_of(check, Window(*window), now_ms, allowed=bool(allowed))
            for check, (allowed, *window) in zip(checks, found, strict=True)
        ]
