"""The ledger checked against its own rules, all the time."""

import structlog
from prometheus_client import Gauge
from sqlalchemy import text

from memepool_common import audit
from memepool_common.db import Database, Session, take_time
from memepool_payments.domain.errors import WithdrawalsStoppedError
from memepool_payments.store import invariants, reads, stops

BROKEN = Gauge("memepool_ledger_broken", "Rows that break an invariant", ["invariant"])
STOPPED = Gauge("memepool_withdrawals_stopped", "1 while nothing may leave the platform")
OWED = Gauge("memepool_owed_satoshis", "What users can claim")
COINS = Gauge("memepool_coins_satoshis", "What the platform holds on chain")
TIMEOUT_S = 60
WORK_MEM_MB = 128
log = structlog.get_logger(__name__)


async def reconcile(database: Database) -> dict[str, int]:
    """Check every invariant in one snapshot and say so in the metrics; returns what is broken.

    A breach stops withdrawals, and only they: nobody's money waits for the search of a fault, but
    none leaves either. The stop stays until a person lifts it.
    """
    async with database.read() as session:
        await take_time(session, TIMEOUT_S)
        await session.execute(text(f"set local work_mem = '{WORK_MEM_MB}MB'"))
        broken = await invariants.broken(session)
        reserves = await reads.reserves(session)
    for name in invariants.INVARIANTS:
        BROKEN.labels(name).set(broken.get(name, 0))
    OWED.set(reserves.owed)
    COINS.set(reserves.coins)
    if broken:
        log.error("ledger_broken", **broken)
        await stop_withdrawals(database, broken)
    async with database.read() as session:
        STOPPED.set(await stops.reason(session) is not None)
    return broken


async def require_withdrawals(session: Session) -> None:
    """Raise WithdrawalsStoppedError while the ledger is in doubt."""
    if await stops.reason(session) is not None:
        raise WithdrawalsStoppedError("Withdrawals are stopped while the ledger is being checked.")


async def stop_withdrawals(database: Database, broken: dict[str, int]) -> None:
    """Let nothing leave the platform until a person lifts the stop."""
    async with database.transaction() as session:
        if await stops.stop(session, ", ".join(sorted(broken))):
            await audit.record(
                session,
                actor_id=None,
                account_id=None,
                action="payments.withdrawals.stopped",
                subject="ledger",
                details=dict(broken),
            )
