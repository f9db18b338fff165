"""The live stream: events in from the bus, public models out to clients."""

from memepool_gateway.stream.redis_store import RedisStream
from memepool_gateway.stream.store import MemoryStream, StreamStore

__all__ = ["MemoryStream", "RedisStream", "StreamStore"]
