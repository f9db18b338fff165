"""The sealed ledger, verified all the time: somebody's hand is noticed without anybody asking."""

import structlog

from memepool_common.db import Database
from memepool_payments.domain.sealing import Block
from memepool_payments.use_cases import sealing
from memepool_payments.use_cases.reconciliation import BROKEN, stop_withdrawals

SEALED = "audit_blocks_are_what_was_sealed"
LIMIT_S = 5.0
log = structlog.get_logger(__name__)


class Patrol:
    """Walks along the chain of blocks, `LIMIT_S` at a time, and begins anew at its end."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._before: Block | None = None

    async def walk(self) -> None:
        """Verify the next blocks. What is broken stops withdrawals, and stays in the metric, as
        the walk does not go past it."""
        found = await sealing.verify(self._database, after=self._before, limit_s=LIMIT_S)
        self._before = None if found.problem is None and found.whole else found.head
        BROKEN.labels(SEALED).set(found.problem is not None)
        if found.problem is not None:
            log.error("ledger_broken", problem=found.problem)
            await stop_withdrawals(self._database, {SEALED: 1})
