"""The ledger checked against its own rules, all the time."""

import structlog
from prometheus_client import Gauge

from memepool_common.db import Database
from memepool_payments.store import invariants, reads

BROKEN = Gauge("memepool_ledger_broken", "Rows that break an invariant", ["invariant"])
OWED = Gauge("memepool_owed_satoshis", "What users can claim")
COINS = Gauge("memepool_coins_satoshis", "What the platform holds on chain")
log = structlog.get_logger(__name__)


async def reconcile(database: Database) -> dict[str, int]:
    """Check every invariant in one snapshot and say so in the metrics; returns what is broken."""
    async with database.read() as session:
        broken = await invariants.broken(session)
        reserves = await reads.reserves(session)
    for name in invariants.INVARIANTS:
        BROKEN.labels(name).set(broken.get(name, 0))
    OWED.set(reserves.owed)
    COINS.set(reserves.coins)
    if broken:
        log.error("ledger_broken", **broken)
    return broken
