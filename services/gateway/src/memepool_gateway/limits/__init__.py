"""Rate limits: how many calls an address and a user have, by kind of call."""

from memepool_gateway.limits.counter import MemoryCounter, RateCounter
from memepool_gateway.limits.gate import Gate

__all__ = ["Gate", "MemoryCounter", "RateCounter"]
