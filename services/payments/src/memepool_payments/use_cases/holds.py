"""Money set aside, then posted, voided or expired: exactly once.

The available balance excludes it from the first moment, since it lies on an account of its own. A
hold is closed under one key, whatever becomes of it: of all who try, the ledger lets one.
"""

from collections.abc import Sequence
from uuid import UUID

from prometheus_client import Counter

from memepool_common.db import Database, Session
from memepool_payments.domain.journal import (
    KEY_REUSED,
    POSTED,
    Movement,
    NewJournal,
    Posting,
    moving,
    request_hash,
)
from memepool_payments.store import holds, ledger
from memepool_payments.store.holds import Hold, NewHold

EXPIRED_PER_TRANSACTION = 200
EXPIRED = Counter("memepool_holds_expired_total", "Holds whose time was over before their purpose")


class HoldUnknownError(LookupError):
    """There is no such hold: it was never asked for, or refused."""


class HoldClosedError(Exception):
    """The hold was closed in another way; `state` says in which."""

    def __init__(self, state: str) -> None:
        super().__init__(f"the hold is {state}")
        self.state = state


async def open_hold(session: Session, wanted: NewHold) -> Posting:
    """Set money aside; the outcome may be a refusal. The same id gets the same answer for ever."""
    owner = wanted.owner_id
    available = (await ledger.open_accounts(session, [owner]))[owner]
    held = (await ledger.open_accounts(session, [owner], ledger.HELD))[owner]
    journal = NewJournal(
        scope=f"hold:{owner}",
        key=f"open:{wanted.id}",
        request_hash=request_hash(wanted.kind, wanted.amount),
        kind=wanted.kind,
        movements=[Movement(available, held, wanted.amount)],
        sender_id=owner,
    )
    (posting,) = await ledger.post(session, [journal])
    if posting.outcome == POSTED and not posting.replayed:
        await holds.add(session, wanted)
    return posting


async def post_hold(session: Session, hold_id: UUID, parts: Sequence[tuple[int, int]]) -> None:
    """Move held money to where it was meant for; what is left of it goes back to its owner.

    Args:
        session: the open transaction.
        hold_id: an open hold, or one that was posted with the same parts.
        parts: accounts with satoshis, together at most the hold's amount.

    Raises:
        HoldUnknownError, HoldClosedError: also when its time is over.
        ValueError: the parts are nothing, or more than is held.
    """
    hold = await _lock(session, hold_id)
    total = sum(amount for _, amount in parts)
    if not 0 < total <= hold.amount:
        raise ValueError(f"{total} of a hold of {hold.amount}")
    if hold.state == "open" and hold.overdue:
        raise HoldClosedError("expired")
    await _close(session, [hold], "posted", parts)


async def void_hold(session: Session, hold_id: UUID) -> None:
    """Give held money back to its owner.

    Raises:
        HoldUnknownError, HoldClosedError.
    """
    await _close(session, [await _lock(session, hold_id)], "voided")


async def expire_holds(database: Database) -> None:
    """Give back what was held for too long, some hundred per transaction."""
    more = True
    while more:
        async with database.transaction() as session:
            due = await holds.lock_due(session, EXPIRED_PER_TRANSACTION)
            await _close(session, due, "expired")
        EXPIRED.inc(len(due))
        more = len(due) == EXPIRED_PER_TRANSACTION


async def _lock(session: Session, hold_id: UUID) -> Hold:
    hold = await holds.lock(session, hold_id)
    if hold is None:
        raise HoldUnknownError(f"there is no hold {hold_id}")
    return hold


async def _close(
    session: Session, closing: Sequence[Hold], state: str, parts: Sequence[tuple[int, int]] = ()
) -> None:
    owners = [hold.owner_id for hold in closing]
    available_of = await ledger.accounts_of(session, owners)
    held_of = await ledger.accounts_of(session, owners, ledger.HELD)
    posted = sum(amount for _, amount in parts)
    journals = []
    for hold in closing:
        available, held = available_of[hold.owner_id], held_of[hold.owner_id]
        journal = NewJournal(
            scope=f"hold:{hold.owner_id}",
            key=f"close:{hold.id}",
            request_hash=request_hash(state, *parts),
            kind=hold.kind,
            movements=moving(
                *(Movement(held, account, amount) for account, amount in parts),
                Movement(held, available, hold.amount - posted),
            ),
            recipient_id=None if parts else hold.owner_id,
            sender_id=hold.owner_id if parts else None,
        )
        journals.append(journal)
    fresh = []
    for hold, posting in zip(closing, await ledger.post(session, journals), strict=True):
        if posting.outcome == KEY_REUSED:
            raise HoldClosedError(hold.state)
        if posting.outcome != POSTED:
            raise AssertionError("held money is there to be moved")
        if not posting.replayed:
            fresh.append(hold.id)
    await holds.close(session, fresh, state, [posted] * len(fresh))
