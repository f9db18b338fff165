"""What the tests of services share: tokens of a test issuer, and an unreliable bus."""

from memepool_common.testing.bus import UnreliableBus, drain
from memepool_common.testing.tokens import TestIssuer

__all__ = ["TestIssuer", "UnreliableBus", "drain"]
