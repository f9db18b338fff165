"""Short-lived answers to public reads, so that a crowd costs a service as much as one client."""

from memepool_gateway.cache.reads import ReadCache
from memepool_gateway.cache.store import CacheStore, MemoryStore, Stored

__all__ = ["CacheStore", "MemoryStore", "ReadCache", "Stored"]
