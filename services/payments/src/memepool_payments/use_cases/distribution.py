"""A closed round's rewards: recorded whole, checked against the ledger, paid in resumable steps.

Each step is one transaction under the round's lock and says in the round's row that it is done,
so a process may die between any two of them, and several may work at once.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import structlog
from prometheus_client import Counter

from memepool_common import audit
from memepool_common.db import Database, Session
from memepool_common.events import outbox
from memepool_payments import events
from memepool_payments.domain.distribution import Plan, objection
from memepool_payments.domain.errors import NotStoppedError, RoundNotFoundError
from memepool_payments.domain.journal import (
    POSTED,
    Movement,
    NewJournal,
    moving,
    request_hash,
)
from memepool_payments.store import distributions, ledger, stakes
from memepool_payments.store.distributions import Recorded
from memepool_payments.store.stakes import Vote
from memepool_payments.use_cases.stakes import REFUNDS_PER_TRANSACTION, refund, refund_some

LINES_MAX = 250
"""Rewards in one journal: their accounts are locked together, while others wait."""
STOPPED = Counter("memepool_distributions_stopped_total", "Rounds whose plan was not paid")
log = structlog.get_logger(__name__)


async def receive(session: Session, recorded: Recorded, withdrawn: Sequence[UUID]) -> None:
    """Record a round's plan and refuse its later stakes; the rest is `work`'s."""
    plan = recorded.plan
    await ledger.open_accounts(session, sorted({*recorded.recipients}))
    if await stakes.lock_round(session, plan.round_id) != "open":
        return  # a repetition: the first one stands
    await distributions.record(session, recorded)
    await stakes.withdraw_memes(session, plan.round_id, withdrawn)
    unknown = [Vote(vote_id, plan.round_id, None, None, None) for vote_id in recorded.void]
    await stakes.mark_void(session, unknown, "not_counted")
    await distributions.close(session, plan.round_id)


async def work(database: Database) -> None:
    """Bring every closed round as far as it goes; one that fails does not hold up the others."""
    async with database.read() as session:
        rounds = await distributions.due(session)
    failures = []
    for round_id in rounds:
        try:
            while await step(database, round_id):
                pass
        except Exception as error:  # noqa: BLE001 - raised again once the others had their turn
            failures.append(error)
    if failures:
        raise failures[0]


async def step(database: Database, round_id: str) -> bool:
    """Do one step of a round; False once there is nothing left to do."""
    async with database.statement() as session:  # nearly always it is this
        if await distributions.pay_chunk(session, round_id, LINES_MAX):
            return True
    async with database.transaction() as session:
        state = await distributions.lock(session, round_id)
        if state == "refunding":
            return await _refund_chunk(session, round_id)
        if state == "closed":
            return await refund_some(session, round_id) or await _judge(session, round_id)
        # It may have been judged by another worker since we looked.
        if state == "paying" and not await distributions.pay_chunk(session, round_id, LINES_MAX):
            await _finish(session, round_id)
            return False
        return state == "paying"


async def _judge(session: Session, round_id: str) -> bool:
    plan = await distributions.load(session, round_id)
    reason = objection(plan, await distributions.holdings(session, plan))
    if reason is not None:
        await _stop(session, round_id, reason)
        return False
    await distributions.take_carry(session, plan)
    await _move_fee_and_carry(session, plan)
    await distributions.start_paying(session, round_id)
    return True


async def _stop(session: Session, round_id: str, reason: str) -> None:
    await distributions.stop(session, round_id, reason)
    data = events.DistributionStoppedData(
        round_id=round_id, reason=reason, stopped_at=datetime.now(UTC)
    )
    await outbox.append(session, [events.about_round(events.DISTRIBUTION_STOPPED, round_id, data)])
    await audit.record(
        session,
        actor_id=None,
        account_id=None,
        action="payments.distribution.stopped",
        subject=round_id,
        outcome=reason.partition(":")[0],
        details={"reason": reason},
    )
    STOPPED.inc()
    log.error("distribution_stopped", round_id=round_id, reason=reason)


async def repair(session: Session, round_id: str, admin_id: UUID, *, refund_all: bool) -> str:
    """Take a stopped round up again, by an admin's hand; returns the state it is in now.

    Raises:
        RoundNotFoundError: payments knows no such round.
        NotStoppedError: the round is not stopped.
    """
    state = "refunding" if refund_all else "closed"
    before = await distributions.repair(session, round_id, state)
    if before is None:
        raise RoundNotFoundError(f"There is no round {round_id} here.")
    if before != "stopped":
        raise NotStoppedError(f"Round {round_id} is {before}: only a stopped one is repaired.")
    await audit.record(
        session,
        actor_id=admin_id,
        account_id=None,
        action=f"payments.distribution.{'refund' if refund_all else 'retry'}",
        subject=round_id,
    )
    return state


async def _refund_chunk(session: Session, round_id: str) -> bool:
    held = await stakes.held(session, round_id, REFUNDS_PER_TRANSACTION)
    if held:
        await refund(session, round_id, held, "round_refunded")
        return True
    escrow = await ledger.escrow_account(session, round_id)
    if await ledger.total(session, escrow) != 0:
        raise AssertionError("a refunded round leaves its escrow empty")
    await distributions.finish_refund(session, round_id)
    return False


async def _move_fee_and_carry(session: Session, plan: Plan) -> None:
    escrow = await ledger.escrow_account(session, plan.round_id)
    carry = await ledger.platform_account(session, ledger.CARRY)
    fee = await ledger.platform_account(session, ledger.PLATFORM_FEE)
    movements = moving(
        Movement(carry, escrow, plan.carry_in),
        Movement(escrow, fee, plan.fee),
        Movement(escrow, carry, plan.carry_out),
    )
    if movements:  # an idle round has nothing to move
        journal = NewJournal(
            scope="payout",
            key=f"payout:{plan.round_id}:0",
            request_hash=request_hash(*movements),
            kind="fee",
            movements=movements,
            round_id=plan.round_id,
        )
        (posting,) = await ledger.post(session, [journal])
        if posting.outcome != POSTED or posting.replayed:
            raise AssertionError("the round's row says that it is not paid yet")
    if plan.carry_out:
        await distributions.leave_carry(session, plan.round_id, plan.carry_out)


async def _finish(session: Session, round_id: str) -> None:
    plan = await distributions.load(session, round_id)
    escrow = await ledger.escrow_account(session, round_id)
    if await ledger.total(session, escrow) != 0:
        raise AssertionError("a paid round leaves its escrow empty")
    await distributions.finish(session, round_id)
    data = events.RewardsDistributedData(
        round_id=round_id,
        pot=plan.pot,
        fee=plan.fee,
        rewards=plan.rewards,
        carry_out=plan.carry_out,
        distributed_at=datetime.now(UTC),
    )
    await outbox.append(session, [events.about_round(events.REWARDS_DISTRIBUTED, round_id, data)])
