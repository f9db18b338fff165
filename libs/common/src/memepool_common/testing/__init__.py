"""What the tests of services share: a token issuer, auth's port by it, an unreliable bus."""

from memepool_common.testing.bus import CountedBus, UnreliableBus
from memepool_common.testing.stub_auth import stub_auth
from memepool_common.testing.tokens import TestIssuer
from memepool_common.testing.waiting import until

__all__ = ["CountedBus", "TestIssuer", "UnreliableBus", "stub_auth", "until"]
