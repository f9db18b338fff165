"""Balance and history."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query

from memepool_common.web.deps import ReadSessionDep
from memepool_common.web.model import (
    PAGE_SIZE_DEFAULT,
    Cursor,
    Limit,
    Page,
    Timestamp,
    cut_page,
    decode_cursor,
)
from memepool_payments.api.deps import Member, SettingsDep
from memepool_payments.api.models import Balance, Transaction, TransactionType
from memepool_payments.domain.errors import TransactionNotFoundError
from memepool_payments.domain.journal import TRANSFER_FEE
from memepool_payments.store import reads
from memepool_payments.store.reads import Movement
from memepool_payments.use_cases.transfers import transaction_id

router = APIRouter(prefix="/payments", tags=["payments"])
FromTime = Annotated[Timestamp | None, Query(alias="from", description="At or after")]
ToTime = Annotated[Timestamp | None, Query(alias="to", description="Before")]


@router.get("/balance", summary="Your money")
async def get_balance(session: ReadSessionDep, caller: Member, settings: SettingsDep) -> Balance:
    """What can be spent, what may leave the platform, what is bound, what is still coming."""
    found = await reads.balances(session, caller.user_id, settings.chain.maturity_blocks)
    return Balance(**found._asdict())


@router.get("/history", summary="Your transactions, newest first")
async def list_history(
    session: ReadSessionDep,
    caller: Member,
    kind: Annotated[TransactionType | None, Query(alias="type")] = None,
    from_time: FromTime = None,
    to_time: ToTime = None,
    limit: Limit = PAGE_SIZE_DEFAULT,
    cursor: Cursor = None,
) -> Page[Transaction]:
    """Deposits, stakes, refunds, rewards and transfers, filtered by type and time."""
    before = None if cursor is None else decode_cursor(cursor, int, int)
    found = await reads.history(
        session,
        caller.user_id,
        before=None if before is None else (before[0], before[1]),
        kind=kind,
        from_time=from_time,
        to_time=to_time,
        limit=limit + 1,
    )
    shown, more = cut_page(found, limit, lambda each: (each.journal_id, each.line))
    return Page(items=[_transaction(each, caller.user_id) for each in shown], next_cursor=more)


@router.get("/transactions/{transactionId}", summary="One of your transactions")
async def get_transaction(
    session: ReadSessionDep,
    caller: Member,
    wanted: Annotated[
        str, Path(alias="transactionId", pattern=r"^[0-9]{1,18}-[0-9]{1,4}$", max_length=24)
    ],
) -> Transaction:
    """Yours only: another user's is not found."""
    journal_id, line = map(int, wanted.split("-"))
    found = await reads.movement(session, caller.user_id, journal_id, line)
    if found is None:
        raise TransactionNotFoundError(f"You have no transaction {wanted}.")
    return _transaction(found, caller.user_id)


def _transaction(found: Movement, owner_id: UUID) -> Transaction:
    """The movement as its owner sees it."""
    if found.kind == "fee" and found.note == TRANSFER_FEE:
        return Transaction(
            id=transaction_id(found.journal_id, found.line),
            type=found.kind,
            amount=abs(found.amount),
            sender=str(found.sender_id),
            recipient=None,
            timestamp=found.created_at,
            memo=None,
            txid=None,
        )
    round_name = f"round:{found.round_id}" if found.round_id else None
    # A journal with the rewards of many names none of them: the entry is the owner's.
    paid = found.sender_id or (owner_id if found.amount < 0 else None)
    received = found.recipient_id or (owner_id if found.amount > 0 else None)
    sender = str(paid) if paid else round_name
    recipient = str(received) if received else round_name
    return Transaction(
        id=transaction_id(found.journal_id, found.line),
        type=found.kind,
        amount=abs(found.amount),
        sender=sender,
        recipient=recipient,
        timestamp=found.created_at,
        memo=found.note if found.memo is None else found.memo,
        txid=found.txid,
    )
