"""The stream's recent past in a Redis Stream: one worker appends, every gateway replica reads.

An entry's id in Redis is its position. The first part is the stream's epoch, fixed when the stream
begins; the second counts up without a hole, so a hole, or another epoch, is history that is gone.
A stream begins with a mark that is no entry, numbered 0, written by whoever comes first.

All keys share a hash tag. Scripts make each step whole; the stream is cut from them too, because
Redis itself bounds a stream by entries only.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from memepool_common.ids import uuid7
from memepool_gateway.redis_client import RedisAwayError, RedisClient
from memepool_gateway.settings import RedisSettings, StreamSettings
from memepool_gateway.stream.store import (
    ENTRY_OVERHEAD_BYTES,
    REMEMBERED_MAX,
    Draft,
    Entry,
    NotTheWriterError,
    Position,
    StreamUnavailableError,
    require_kept,
)

PREFIX = "memepool:{stream}:"
STREAM, SEEN, SIZE, WRITER = (PREFIX + name for name in ("entries", "seen", "size", "writer"))
LEASE_MS = 3_000
WAKE_MARGIN_S = 5.0

_BEGIN = """
local function last_id()
  local tail = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  if tail then return tail[1] end
  local now = redis.call('TIME')
  local epoch = now[1] * 1000 + math.floor(now[2] / 1000)
  return redis.call('XADD', KEYS[1], string.format('%.0f-0', epoch), 'begin', '')
end
"""

# KEYS: entries. ARGV: position, number of entries. Gives first id, last id, entries after it.
_READ = (
    _BEGIN
    + """
local last = last_id()
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][1]
return {first, last, redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])}
"""
)

# KEYS: writer. ARGV: who asks, for how many ms. Gives 1 to the one writer.
_HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

# KEYS: entries, seen, size, writer. ARGV: who writes, the lease in ms, the last position that it
# knows, the event's id, how many of these are remembered, limits in entries and in bytes, bytes of
# an entry beside its data; then name, audience and data of each draft. Gives the last id.
#
# A Redis that came back without its last moments would number other entries as those lost were:
# then the stream begins anew.
_APPEND = (
    _BEGIN
    + """
local holder = redis.call('GET', KEYS[4])
if holder and holder ~= ARGV[1] then return false end
redis.call('SET', KEYS[4], ARGV[1], 'PX', ARGV[2])
local epoch, number = string.match(last_id(), '(%d+)-(%d+)')
local known_epoch, known_number = string.match(ARGV[3], '(%d+)-(%d+)')
number = tonumber(number)
if known_epoch == epoch and tonumber(known_number) > number then
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
  epoch, number = string.match(last_id(), '(%d+)-(%d+)')
  number = tonumber(number)
end
if ARGV[4] ~= '' then
  if redis.call('ZADD', KEYS[2], 'NX', number, ARGV[4]) == 0 then return last_id() end
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - ARGV[5])
end
local size = tonumber(redis.call('GET', KEYS[3]) or '0')
for i = 9, #ARGV, 3 do
  number = number + 1
  local id = string.format('%s-%.0f', epoch, number)
  redis.call('XADD', KEYS[1], id, 'name', ARGV[i], 'audience', ARGV[i + 1], 'data', ARGV[i + 2])
  size = size + ARGV[8] + #ARGV[i + 2]
end
local count = redis.call('XLEN', KEYS[1])
while count > 1 and (count > tonumber(ARGV[6]) or size > tonumber(ARGV[7])) do
  local data = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][2][6]
  if data then size = size - ARGV[8] - #data end
  count = count - 1
  redis.call('XTRIM', KEYS[1], 'MAXLEN', count)
end
redis.call('SET', KEYS[3], string.format('%.0f', size))
return last_id()
"""
)


class RedisStream:
    """The store that all processes of the gateway share. While Redis is away, calls raise
    `StreamUnavailableError`; readers and the writer go on from where they were when it is back.
    """

    def __init__(self, redis: RedisSettings, settings: StreamSettings) -> None:
        self._redis = RedisClient(redis)
        self._limits = [settings.history_entries_max, settings.history_bytes_max]
        commands = self._redis.commands
        self._read_script = commands.register_script(_READ)
        self._hold_script = commands.register_script(_HOLD)
        self._append_script = commands.register_script(_APPEND)
        self._me = str(uuid7())
        self._written = ""

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.close()

    async def hold(self) -> bool:
        """Be the one writer for the next moments, if no other process is."""
        asked = (self._me, LEASE_MS)
        return bool(await self._ask(lambda: self._hold_script(keys=[WRITER], args=asked)))

    async def append(self, drafts: Sequence[Draft], event_id: UUID | None = None) -> None:
        """Add entries, and forget the oldest beyond the limits."""
        if not drafts:
            return
        arguments: list[Any] = [self._me, LEASE_MS, self._written, str(event_id or "")]
        arguments += [REMEMBERED_MAX, *self._limits, ENTRY_OVERHEAD_BYTES]
        for draft in drafts:
            audience = " ".join(map(str, draft.audience)) if draft.audience is not None else ""
            arguments += [draft.name, audience, draft.data]
        keys = [STREAM, SEEN, SIZE, WRITER]
        last = await self._ask(lambda: self._append_script(keys=keys, args=arguments))
        if last is None:
            raise NotTheWriterError("another process writes the stream")
        self._written = last

    async def latest(self) -> Position:
        """The position of the last entry."""
        _, last, _ = await self._look(Position(0, 0), size_max=1)
        return last

    async def read(self, after: Position, *, size_max: int, wait_s: float = 0.0) -> Sequence[Entry]:
        """The next entries."""
        entries = await self._read(after, size_max)
        if not entries and wait_s > 0:
            wait_ms = max(1, int(wait_s * 1_000))
            xread = self._redis.commands.xread
            await self._ask(
                lambda: xread({STREAM: str(after)}, count=1, block=wait_ms),
                wait_s=wait_s + WAKE_MARGIN_S,
            )
            entries = await self._read(after, size_max)
        return entries

    async def _read(self, after: Position, size_max: int) -> Sequence[Entry]:
        first, last, entries = await self._look(after, size_max)
        require_kept(after, first, last)
        return entries

    async def _look(
        self, after: Position, size_max: int
    ) -> tuple[Position, Position, Sequence[Entry]]:
        asked = (str(after), size_max)
        found = await self._ask(lambda: self._read_script(keys=[STREAM], args=asked))
        first, last, rows = found
        return _position(first), _position(last), [_entry(row) for row in rows if len(row[1]) == 6]

    async def _ask(self, command: Callable[[], Awaitable[Any]], *, wait_s: float = 0.0) -> Any:
        try:
            return await self._redis.ask(command, wait_s=wait_s)
        except RedisAwayError as error:
            raise StreamUnavailableError(str(error)) from error


def _position(found: bytes) -> Position:
    return Position.parse(found.decode())


def _entry(row: Sequence[Any]) -> Entry:
    found, (_, name, _, audience, _, data) = row
    users = frozenset(UUID(user) for user in audience.decode().split())
    return Entry(_position(found), name.decode(), users or None, data)
