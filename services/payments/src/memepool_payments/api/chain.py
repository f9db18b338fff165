"""Deposits and withdrawals: the ways in and out."""

from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Path

from memepool_common.web.deps import IdempotencyKey, ReadSessionDep, SessionDep
from memepool_common.web.model import (
    PAGE_SIZE_DEFAULT,
    Cursor,
    Limit,
    Page,
    cut_page,
    decode_cursor,
)
from memepool_common.web.money import MoneyRoute
from memepool_common.web.problem import not_built_yet
from memepool_payments.api.deps import NOT_BUILT, DepositKeysDep, Member, SettingsDep
from memepool_payments.api.models import (
    Deposit,
    DepositAddress,
    DepositRequest,
    Payout,
    PayoutRequest,
    Withdrawal,
    WithdrawalRequest,
)
from memepool_payments.domain.errors import DepositNotFoundError
from memepool_payments.store import reads
from memepool_payments.store.deposits import LOST_AFTER
from memepool_payments.use_cases.deposits import address_for
from memepool_payments.use_cases.reconciliation import require_withdrawals

router = APIRouter(prefix="/payments", tags=["payments"], route_class=MoneyRoute)
RequiredKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="Required: money must not leave twice",
    ),
]


@router.get("/deposit-address", summary="The address that your deposits go to")
async def get_deposit_address(
    session: SessionDep, caller: Member, keys: DepositKeysDep, settings: SettingsDep
) -> DepositAddress:
    """Always the same one. It is watched closely for a while after you have asked."""
    watch = timedelta(seconds=settings.chain.watch_s)
    return DepositAddress(address=await address_for(session, keys, caller.user_id, watch=watch))


@router.post(
    "/deposits", status_code=201, summary="Hand in a deposit yourself", openapi_extra=NOT_BUILT
)
async def create_deposit(
    body: DepositRequest,  # noqa: ARG001 - the contract
    caller: Member,  # noqa: ARG001 - the contract
    key: IdempotencyKey = None,  # noqa: ARG001 - the contract
) -> Deposit:
    """A raw transaction or BEEF that pays your deposit address."""
    raise not_built_yet("createDeposit")


@router.get("/deposits", summary="Your deposits, newest first")
async def list_deposits(
    session: ReadSessionDep,
    caller: Member,
    settings: SettingsDep,
    limit: Limit = PAGE_SIZE_DEFAULT,
    cursor: Cursor = None,
) -> Page[Deposit]:
    """Those seen on chain, whether credited or not."""
    before = None if cursor is None else decode_cursor(cursor, datetime, str, int)
    found = await reads.deposits(
        session,
        caller.user_id,
        before=None if before is None else (before[0], before[1], before[2]),
        limit=limit + 1,
    )
    shown, more = cut_page(
        found, limit, lambda row: (row.created_at.isoformat(), row.txid, row.vout)
    )
    required = settings.chain.credit_confirmations
    return Page(items=[_deposit(row, required) for row in shown], next_cursor=more)


@router.get("/deposits/{depositId}", summary="One of your deposits")
async def get_deposit(
    session: ReadSessionDep,
    caller: Member,
    settings: SettingsDep,
    deposit_id: Annotated[
        str, Path(alias="depositId", pattern="^[0-9a-f]{64}:[0-9]{1,9}$", max_length=74)
    ],
) -> Deposit:
    """By its outpoint; another user's is not found."""
    txid, _, vout = deposit_id.partition(":")
    row = await reads.deposit(session, caller.user_id, txid, int(vout))
    if row is None:
        raise DepositNotFoundError(f"You have no deposit {deposit_id}.")
    return _deposit(row, settings.chain.credit_confirmations)


@router.post(
    "/withdrawals", status_code=202, summary="Send money to an address", openapi_extra=NOT_BUILT
)
async def create_withdrawal(
    body: WithdrawalRequest,  # noqa: ARG001 - the contract
    caller: Member,  # noqa: ARG001 - the contract
    key: RequiredKey,  # noqa: ARG001 - the contract
    session: ReadSessionDep,
) -> Withdrawal:
    """To your own wallet, or with your wallet's signature to any other."""
    await require_withdrawals(session)
    raise not_built_yet("createWithdrawal")


@router.get("/withdrawals", summary="Your withdrawals, newest first", openapi_extra=NOT_BUILT)
async def list_withdrawals(
    caller: Member,  # noqa: ARG001 - the contract
    limit: Limit = PAGE_SIZE_DEFAULT,  # noqa: ARG001 - the contract
    cursor: Cursor = None,  # noqa: ARG001 - the contract
) -> Page[Withdrawal]:
    """Those asked for, whether sent or not."""
    raise not_built_yet("listWithdrawals")


@router.get(
    "/withdrawals/{withdrawalId}", summary="One of your withdrawals", openapi_extra=NOT_BUILT
)
async def get_withdrawal(
    withdrawal_id: Annotated[UUID, Path(alias="withdrawalId")],  # noqa: ARG001 - the contract
    caller: Member,  # noqa: ARG001 - the contract
) -> Withdrawal:
    """Another user's is not found."""
    raise not_built_yet("getWithdrawal")


@router.get("/payout", summary="How your rewards leave", openapi_extra=NOT_BUILT)
async def get_payout(caller: Member) -> Payout:  # noqa: ARG001 - the contract
    """By the round's settlement transaction, or not at all until you withdraw."""
    raise not_built_yet("getPayout")


@router.put("/payout", summary="Choose how your rewards leave", openapi_extra=NOT_BUILT)
async def replace_payout(
    body: PayoutRequest,  # noqa: ARG001 - the contract
    caller: Member,  # noqa: ARG001 - the contract
) -> Payout:
    """Needs your wallet's signature."""
    raise not_built_yet("replacePayout")


def _deposit(row: Any, required_confirmations: int) -> Deposit:
    credited = row.state == "credited"
    return Deposit(
        id=f"{row.txid}:{row.vout}",
        txid=row.txid,
        vout=row.vout,
        address=row.address,
        amount=row.amount,
        state="credited" if credited else "lost" if row.missed >= LOST_AFTER else "pending",
        confirmations=row.tip_height - row.block_height + 1 if credited else 0,
        required_confirmations=required_confirmations,
        block_height=row.block_height if credited else None,
        block_hash=row.block_hash if credited else None,
        created_at=row.created_at,
        credited_at=row.credited_at if credited else None,
    )
