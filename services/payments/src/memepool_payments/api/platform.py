"""Fees and reserves for everybody; reports and repairs for admins; ARC's callback."""

import hmac
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Path, Response

from memepool_common import audit
from memepool_common.web.deps import AdminCaller, IdempotencyKey, ReadSessionDep, SessionDep
from memepool_common.web.idempotency import once
from memepool_common.web.problem import Problem, not_built_yet
from memepool_payments.api.deps import NOT_BUILT, SettingsDep
from memepool_payments.api.models import (
    AccountFreeze,
    ArcCallback,
    DistributionRepair,
    FeeReport,
    Fees,
    Minimums,
    Owed,
    Reserves,
)
from memepool_payments.api.money import FromTime, ToTime
from memepool_payments.domain.errors import MemberNotFoundError
from memepool_payments.store import members, reads
from memepool_payments.use_cases import distribution

router = APIRouter(prefix="/payments", tags=["payments"])
RoundId = Annotated[str, Path(alias="roundId", pattern="^[0-9]{1,9}$")]
UserId = Annotated[UUID, Path(alias="userId")]


@router.get("/fees", summary="What things cost")
async def get_fees(settings: SettingsDep) -> Fees:
    """Fees and the smallest amounts."""
    money = settings.money
    return Fees(
        platform_fee_basis_points=money.fee_basis_points_max,
        transfer_fee=money.transfer_fee,
        network_fee_sats_per_kb=money.network_fee_sats_per_kb,
        minimums=Minimums(transfer=1, deposit=money.deposit_min, withdrawal=money.withdrawal_min),
    )


@router.get("/fees/report", summary="Fees taken in a period (admins)")
async def get_fee_report(
    session: ReadSessionDep,
    caller: AdminCaller,  # noqa: ARG001 - the role is the check
    from_time: FromTime = None,
    to_time: ToTime = None,
) -> FeeReport:
    """Sums of the ledger's fee account. Nothing was sent on chain yet."""
    platform_fees, transfer_fees = await reads.fees(session, from_time, to_time)
    return FeeReport(
        from_time=from_time,
        to_time=to_time,
        platform_fees=platform_fees,
        transfer_fees=transfer_fees,
        network_fees=0,
    )


@router.get("/reserves", summary="What the platform owes, and what it holds")
async def get_reserves(session: ReadSessionDep) -> Reserves:
    """Everything from one snapshot, so that it adds up or something is wrong."""
    found = await reads.reserves(session)
    return Reserves(
        owed=Owed(
            available=found.available,
            held=found.held,
            escrow=found.escrow,
            carry=found.carry,
            total=found.owed,
        ),
        pending_deposits=found.pending,
        platform_fees=found.fees,
        receivables=-found.receivable,
        platform_equity=found.platform_equity,
        coins=found.coins,
        balanced=found.coins == found.owed + found.pending + found.platform_equity,
        block_height=found.height,
    )


@router.post(
    "/accounts/{userId}/freeze",
    status_code=201,
    summary="Freeze an account (admins)",
    response_model=AccountFreeze,
)
async def freeze_account(
    user_id: UserId, caller: AdminCaller, session: SessionDep, key: IdempotencyKey = None
) -> Response:
    """Nothing new leaves it; stakes already held count, and what comes in still does."""

    async def act() -> AccountFreeze:
        await _freeze(session, caller.user_id, user_id, frozen=True)
        return AccountFreeze(user_id=user_id, frozen=True)

    return await once(
        session,
        scope=f"admin:{caller.user_id}",
        operation="freezeAccount",
        key=key,
        request=str(user_id),
        status=201,
        act=act,
    )


@router.delete(
    "/accounts/{userId}/freeze", status_code=204, summary="Release a frozen account (admins)"
)
async def release_account(user_id: UserId, caller: AdminCaller, session: SessionDep) -> Response:
    """A suspended user's account stays frozen until the suspension ends."""
    await _freeze(session, caller.user_id, user_id, frozen=False)
    return Response(status_code=204)


@router.post(
    "/distributions/{roundId}/retry",
    status_code=202,
    summary="Judge a stopped round again (admins)",
    response_model=DistributionRepair,
)
async def retry_distribution(
    round_id: RoundId, caller: AdminCaller, session: SessionDep, key: IdempotencyKey = None
) -> Response:
    """Pays it if the ledger and the recorded plan agree by now; else it is stopped again."""
    return await _repair(session, caller.user_id, round_id, key, refund_all=False)


@router.post(
    "/distributions/{roundId}/refund",
    status_code=202,
    summary="Give back all stakes of a stopped round (admins)",
    response_model=DistributionRepair,
)
async def refund_distribution(
    round_id: RoundId, caller: AdminCaller, session: SessionDep, key: IdempotencyKey = None
) -> Response:
    """Nobody is rewarded, nobody loses."""
    return await _repair(session, caller.user_id, round_id, key, refund_all=True)


@router.post(
    "/arc/callback",
    status_code=204,
    summary="ARC's notice of a transaction",
    openapi_extra=NOT_BUILT,
)
async def receive_arc_callback(
    body: ArcCallback,  # noqa: ARG001 - the contract
    settings: SettingsDep,
    authorization: Annotated[str, Header(max_length=512)] = "",
) -> Response:
    """With the token that we gave to ARC."""
    expected = settings.arc_callback_token
    given = authorization.removeprefix("Bearer ")
    if expected is None or not hmac.compare_digest(
        given.encode(), expected.get_secret_value().encode()
    ):
        detail = "This call is ARC's alone, with the token that we gave to it."
        raise Problem(401, "token_invalid", detail, headers={"WWW-Authenticate": "Bearer"})
    raise not_built_yet("receiveArcCallback")


async def _repair(
    session: SessionDep, admin_id: UUID, round_id: str, key: str | None, *, refund_all: bool
) -> Response:
    async def act() -> DistributionRepair:
        state = await distribution.repair(session, round_id, admin_id, refund_all=refund_all)
        return DistributionRepair(round_id=round_id, state=state)

    return await once(
        session,
        scope=f"admin:{admin_id}",
        operation="refundDistribution" if refund_all else "retryDistribution",
        key=key,
        request=round_id,
        status=202,
        act=act,
    )


async def _freeze(session: SessionDep, admin_id: UUID, user_id: UUID, *, frozen: bool) -> None:
    if not await members.freeze(session, user_id, frozen=frozen):
        raise MemberNotFoundError(f"There is no user {user_id} here.")
    await audit.record(
        session,
        actor_id=admin_id,
        account_id=user_id,
        action=f"payments.account.{'frozen' if frozen else 'released'}",
        subject=str(user_id),
    )
