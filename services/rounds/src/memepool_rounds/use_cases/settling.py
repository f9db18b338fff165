"""Payments tells what became of a closed round's rewards."""

from datetime import datetime

from memepool_common import audit
from memepool_common.db import Session
from memepool_common.events import outbox
from memepool_rounds import events
from memepool_rounds.domain.rounds import Fact, RoundState, advance
from memepool_rounds.store import results, rounds
from memepool_rounds.store.results import Summary
from memepool_rounds.store.rounds import StoredRound


class ContradictionError(Exception):
    """Payments tells of a round what cannot be true; the event is put aside for a human."""


async def settle(session: Session, round_id: int, told: Summary, at: datetime) -> None:
    """The rewards are in the ledger: the round is settled and its carry-out is free to take.

    Raises:
        ContradictionError: the round or its sums are not as payments says.
    """
    current = await _locked(session, round_id)
    state = advance(current.state, Fact.DISTRIBUTED)
    if state is current.state:
        return
    stored = (await results.summaries(session, [round_id]))[round_id]
    if stored != told:
        raise ContradictionError(f"round {round_id}: results are {stored}, payments says {told}")
    await rounds.set_settled(session, round_id, state, at)
    if stored.carry_out:
        await results.leave_carry(session, round_id, stored.carry_out)
    data = events.RoundSettledData(
        round_id=str(round_id),
        pot=stored.pot,
        fee=stored.fee,
        carry_out=stored.carry_out,
        settled_at=at,
        refunded=False,
    )
    await outbox.append(session, [events.about_round(events.ROUND_SETTLED, str(round_id), data)])


async def refund(session: Session, round_id: int, at: datetime) -> None:
    """An admin has a stopped round's stakes given back, all of them: the round ends so. Its results
    stand as what the votes said, nothing of them is paid, and the carry it took is free again.

    Raises:
        ContradictionError: there is no such round.
        IllegalTransition: its rewards were distributed, or it is not tallied.
    """
    current = await _locked(session, round_id)
    state = advance(current.state, Fact.REFUNDED)
    if state is current.state:
        return
    await rounds.set_settled(session, round_id, state, at)
    await results.release_carry(session, round_id)
    stored = (await results.summaries(session, [round_id]))[round_id]
    data = events.RoundSettledData(
        round_id=str(round_id),
        pot=stored.pot,
        fee=0,
        carry_out=0,
        settled_at=at,
        refunded=True,
    )
    await outbox.append(session, [events.about_round(events.ROUND_SETTLED, str(round_id), data)])


async def stop(session: Session, round_id: int, reason: str) -> None:
    """Payments has paid nothing: an admin must look. Told late of a round that has ended, it
    is moot."""
    current = await _locked(session, round_id)
    if current.state in (RoundState.SETTLED, RoundState.REFUNDED):
        return
    await rounds.set_stopped(session, round_id, reason)
    await audit.record(
        session,
        actor_id=None,
        account_id=None,
        action="rounds.distribution.stopped",
        subject=str(round_id),
        outcome="stopped",
        details={"reason": reason},
    )


async def note_settlement(session: Session, round_id: int, txid: str, at: datetime) -> None:
    """Which transaction settles the round on the chain."""
    await _locked(session, round_id)
    await rounds.set_settlement(session, round_id, txid, at)


async def _locked(session: Session, round_id: int) -> StoredRound:
    current = await rounds.by_id(session, round_id, " for update")
    if current is None:
        raise ContradictionError(f"there is no round {round_id}")
    return current
