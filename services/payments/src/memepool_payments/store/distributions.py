"""Recorded plans, how far each is paid, and what rounds leave to later ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text

from memepool_common.db import Session, Statement, run
from memepool_payments.domain.distribution import Holdings, Plan

_RECORD = text(
    "insert into distribution (round_id, counted_votes, stakes, carry_in, carry_rounds,"
    " carry_amounts, pot, fee, fee_basis_points, carry_out, creators, recipients, amounts, reasons,"
    " void, roots) values (:round_id, :counted_votes, :stakes, :carry_in,"
    " cast(:carry_rounds as text[]), cast(:carry_amounts as bigint[]), :pot, :fee,"
    " :fee_basis_points, :carry_out, cast(:creators as uuid[]), cast(:recipients as uuid[]),"
    " cast(:amounts as bigint[]), cast(:reasons as text[]), cast(:void as uuid[]),"
    " cast(:roots as jsonb))"
)
_LOAD = text(
    "select round_id, counted_votes, stakes, carry_in, carry_rounds, carry_amounts, pot, fee,"
    " fee_basis_points, carry_out, creators,"
    " (select coalesce(sum(amount), 0) from unnest(amounts) as amount) as rewards"
    " from distribution where round_id = :round_id"
)
_PAY_CHUNK = "select pay_chunk(%s, %s)"
_HELD = text(
    "select count(*) as votes, coalesce(sum(amount), 0) as amount from stake"
    " where round_id = :round_id and state = 'held'"
)
_STRANGERS = text(
    "select distinct r.user_id from distribution d, unnest(d.recipients) as r(user_id)"
    " where d.round_id = :round_id and not exists (select from stake s"
    "  where s.round_id = d.round_id and s.voter_id = r.user_id and s.state = 'held')"
)
_ESCROW = text(
    "select coalesce(sum(e.amount), 0) from account a join entry e on e.account_id = a.id"
    " where a.round_id = :round_id"
)
_FREE_CARRY = text(
    "select round_id, amount from carry where round_id = any(cast(:rounds as text[]))"
    " and taken_by is null order by round_id for update"
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A plan with its lines, as columns, and with what does not decide whether it may be paid."""

    plan: Plan
    recipients: Sequence[UUID]
    amounts: Sequence[int]
    reasons: Sequence[str]
    void: Sequence[UUID]
    roots: dict[str, str]


async def record(session: Session, recorded: Recorded) -> None:
    """Write a round's plan down, once and for all."""
    plan = recorded.plan
    values = {
        "round_id": plan.round_id,
        "counted_votes": plan.counted_votes,
        "stakes": plan.stakes,
        "carry_in": plan.carry_in,
        "carry_rounds": list(plan.carry_sources),
        "carry_amounts": list(plan.carry_sources.values()),
        "pot": plan.pot,
        "fee": plan.fee,
        "fee_basis_points": plan.fee_basis_points,
        "carry_out": plan.carry_out,
        "creators": sorted(plan.creators),
        "recipients": list(recorded.recipients),
        "amounts": list(recorded.amounts),
        "reasons": list(recorded.reasons),
        "void": list(recorded.void),
        "roots": orjson.dumps(recorded.roots).decode(),
    }
    await session.execute(_RECORD, values)


async def load(session: Session, round_id: str) -> Plan:
    """The recorded plan of a round."""
    row: Any = (await session.execute(_LOAD, {"round_id": round_id})).one()
    return Plan(
        round_id=row.round_id,
        counted_votes=row.counted_votes,
        stakes=row.stakes,
        carry_in=row.carry_in,
        carry_sources=dict(zip(row.carry_rounds, row.carry_amounts, strict=True)),
        pot=row.pot,
        fee=row.fee,
        fee_basis_points=row.fee_basis_points,
        carry_out=row.carry_out,
        creators=frozenset(row.creators),
        rewards=int(row.rewards),
    )


async def holdings(session: Session, plan: Plan) -> Holdings:
    """What the ledger has for the round; locks the carry sources."""
    about = {"round_id": plan.round_id}
    held = (await session.execute(_HELD, about)).one()
    strangers = await session.execute(_STRANGERS, about)
    carry = await session.execute(_FREE_CARRY, {"rounds": list(plan.carry_sources)})
    return Holdings(
        held_votes=held.votes,
        held=int(held.amount),
        escrow=int((await session.execute(_ESCROW, about)).scalar_one()),
        free_carry={row.round_id: row.amount for row in carry},
        strangers=set(strangers.scalars()),
    )


async def take_carry(session: Session, plan: Plan) -> None:
    """The round has these carry-outs now, and no other round can."""
    query = (
        "update carry set taken_by = :round_id"
        " where round_id = any(cast(:sources as text[])) and taken_by is null"
    )
    values = {"round_id": plan.round_id, "sources": list(plan.carry_sources)}
    result = await session.execute(text(query), values)
    if result.rowcount != len(plan.carry_sources):
        raise AssertionError("the carry sources were checked under their locks")


async def leave_carry(session: Session, round_id: str, amount: int) -> None:
    """What a later round may take."""
    query = "insert into carry (round_id, amount) values (:round_id, :amount)"
    await session.execute(text(query), {"round_id": round_id, "amount": amount})


async def pay_chunk(session: Session | Statement, round_id: str, lines_max: int) -> bool:
    """Pay the next lines of a round that is being paid, all or none of them; False if there are
    none left. Takes every lock that it needs, in order."""
    ((paid,),) = await run(session, _PAY_CHUNK, (round_id, lines_max))
    return bool(paid)


async def lock(session: Session, round_id: str) -> str:
    """The round's state; have its row alone until the transaction ends."""
    query = "select state from payment_round where round_id = :round_id for update"
    return str((await session.execute(text(query), {"round_id": round_id})).scalar_one())


async def close(session: Session, round_id: str) -> None:
    """From now on every stake of the round is refused."""
    query = (
        "update payment_round set state = 'closed', closed_at = now() where round_id = :round_id"
    )
    await session.execute(text(query), {"round_id": round_id})


async def start_paying(session: Session, round_id: str) -> None:
    """The plan was accepted."""
    query = "update payment_round set state = 'paying' where round_id = :round_id"
    await session.execute(text(query), {"round_id": round_id})


async def stop(session: Session, round_id: str, reason: str) -> None:
    """The plan was refused; an admin must look."""
    query = (
        "update payment_round set state = 'stopped', stop_reason = :reason"
        " where round_id = :round_id"
    )
    await session.execute(text(query), {"round_id": round_id, "reason": reason})


async def finish(session: Session, round_id: str) -> None:
    """Everything is paid."""
    query = (
        "update payment_round set state = 'paid', finished_at = now() where round_id = :round_id"
    )
    await session.execute(text(query), {"round_id": round_id})


async def repair(session: Session, round_id: str, state: str) -> str | None:
    """Take a stopped round up again: `closed` to judge it anew, `refunding` to give all back.

    Returns the state it was in, None when there is no such round; changes only a stopped one.
    """
    query = "select state from payment_round where round_id = :round_id for update"
    before = (await session.execute(text(query), {"round_id": round_id})).scalar_one_or_none()
    if before == "stopped":
        query = (
            "update payment_round set state = :state, stop_reason = null where round_id = :round_id"
        )
        await session.execute(text(query), {"round_id": round_id, "state": state})
    return before


async def finish_refund(session: Session, round_id: str) -> None:
    """Every stake of the round is back with its voter."""
    query = (
        "update payment_round set state = 'refunded', finished_at = now()"
        " where round_id = :round_id"
    )
    await session.execute(text(query), {"round_id": round_id})


async def due(session: Session) -> list[str]:
    """Rounds with something left to do."""
    query = (
        "select round_id from payment_round where state in ('closed', 'paying', 'refunding')"
        " order by closed_at"
    )
    return list((await session.execute(text(query))).scalars())
