"""A transfer that should not have been: corrected once, by a journal that runs the other way."""

from uuid import UUID

from memepool_common import audit
from memepool_common.db import Session
from memepool_payments.domain.journal import (
    POSTED,
    Movement,
    NewJournal,
    Posting,
    moving,
    request_hash,
)
from memepool_payments.store import ledger, reads

REVERSAL = "transfer_reversal"


class NotReversibleError(Exception):
    """There is no such posted transfer; nothing else is reversed by hand."""


async def reverse(session: Session, journal_id: int, reason: str) -> Posting:
    """Give a transfer back to its sender, without its fee; `replayed` if it was done before.

    What its recipient has spent by now becomes their debt, which later deposits pay first. The key
    is the transfer itself, so it is reversed once, whoever tries and however often.

    Raises:
        NotReversibleError: it is no posted transfer.
    """
    line = await reads.transfer(session, journal_id)
    if line is None:
        raise NotReversibleError(f"{journal_id} is no transfer that was posted")
    debts = await ledger.open_accounts(session, [line.recipient_id], ledger.RECEIVABLE)
    debt = debts[line.recipient_id]
    balances = await ledger.lock_balances(session, [line.source, line.target, debt])
    taken = min(balances[line.target], line.amount)
    journal = NewJournal(
        scope="reversal",
        key=str(journal_id),
        request_hash=request_hash(journal_id),
        kind=REVERSAL,
        movements=moving(
            Movement(line.target, line.source, taken),
            Movement(debt, line.source, line.amount - taken),
        ),
        sender_id=line.recipient_id,
        recipient_id=line.sender_id,
        memo=reason,
    )
    (posting,) = await ledger.post(session, [journal])
    if posting.outcome != POSTED:
        raise AssertionError("a debt has no limit")
    if not posting.replayed:
        await _record(session, line.sender_id, line.recipient_id, journal_id, reason)
    return posting


async def _record(
    session: Session, sender_id: UUID, recipient_id: UUID, journal_id: int, reason: str
) -> None:
    action, subject = "payments.transfer.reversed", str(journal_id)
    lines = [
        audit.Line(None, user_id, action, subject, details={"reason": reason})
        for user_id in (sender_id, recipient_id)
    ]
    await audit.record_all(session, lines)
