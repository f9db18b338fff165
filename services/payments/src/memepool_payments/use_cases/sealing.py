"""The audit chain: made beside the ledger, never in the way of who posts; and its verification."""

import asyncio
import math
import time
from typing import NamedTuple

import structlog
from prometheus_client import Gauge

from memepool_common.db import Database
from memepool_payments.domain.sealing import JOURNALS_MAX, Block, block_of
from memepool_payments.store import blocks

WAIT_S = 2.0
WAIT_STEP_S = 0.02
UNSEALED = Gauge("memepool_ledger_unsealed_journals", "Journals that no audit block covers yet")
log = structlog.get_logger(__name__)


class Verdict(NamedTuple):
    """What a verification found: `problem` is None if every block that it looked at, the last one
    being `head`, is as it was sealed; `whole` if no block comes after that."""

    journals: int
    head: Block | None
    problem: str | None
    whole: bool = True

    @property
    def blocks(self) -> int:
        """How many blocks there are up to `head`."""
        return 0 if self.head is None else self.head.seq


async def seal(database: Database) -> int:
    """Seal what has been committed so far; returns how many blocks were made.

    A journal is numbered before it commits, so the numbers below the highest may still be under
    way. All of them belong to transactions older than a mark taken now: once those have ended, the
    ledger up to the mark is complete.
    """
    async with database.transaction() as session:
        last, transaction_id = await blocks.mark(session)
        sealed = await blocks.head(session)
    done = 0 if sealed is None else sealed.last_journal
    UNSEALED.set(max(0, last - done))
    if done >= last or not await _ended(database, transaction_id):
        return 0
    made = 0
    while True:
        async with database.transaction() as session:
            if not await blocks.alone(session):
                return made
            before = await blocks.head(session)
            first = 1 if before is None else before.last_journal + 1
            if first > last:
                UNSEALED.set(0)
                return made
            until = min(last, first + JOURNALS_MAX - 1)
            rows = await blocks.rows(session, first, until)
            await blocks.add(session, block_of(before, first, until, rows))
            made += 1


async def _ended(database: Database, transaction_id: int) -> bool:
    deadline = asyncio.get_running_loop().time() + WAIT_S
    while True:
        async with database.read() as session:
            if await blocks.ended(session, transaction_id):
                return True
        if asyncio.get_running_loop().time() >= deadline:
            log.warning("sealing_waits", transaction_id=transaction_id)
            return False
        await asyncio.sleep(WAIT_STEP_S)


async def verify(
    database: Database,
    *,
    contains: bytes | None = None,
    after: Block | None = None,
    limit_s: float = math.inf,
) -> Verdict:
    """Compute every block anew from the ledger's rows, and compare.

    Args:
        after: a block that was found to be as it should: go on from there.
        limit_s: how long to go on.
        contains: the hash of a block that was noted elsewhere, and must still be in the chain:
            whoever can rewrite the ledger could rewrite the blocks, too, but not the note.
    """
    before = after
    journals = 0
    deadline_s = time.monotonic() + limit_s
    found = contains is None
    while True:
        async with database.read() as session:
            block = await blocks.after(session, 0 if before is None else before.seq)
            if block is None:
                problem = None if found else "no block has the hash that the chain must contain"
                return Verdict(journals, before, problem)
            first = 1 if before is None else before.last_journal + 1
            rows = await blocks.rows(session, first, block.last_journal)
        if block_of(before, first, block.last_journal, rows) != block:
            problem = (
                f"block {block.seq} (journals {block.first_journal} to {block.last_journal})"
                " is not what was sealed"
            )
            return Verdict(journals, before, problem)
        found = found or block.hash == contains
        journals += block.journals
        before = block
        if time.monotonic() >= deadline_s:
            return Verdict(journals, before, None, whole=False)
