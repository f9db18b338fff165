"""A closing round waits for its last stakes, within bounds, and is then tallied once."""

import asyncio
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from memepool_common.db import Database, Session
from memepool_common.events import outbox
from memepool_rounds import events
from memepool_rounds.domain.outcome import Outcome, outcome_of
from memepool_rounds.domain.rounds import Fact, RoundState, advance, tally_is_due, waited_on
from memepool_rounds.store import results, rounds, submissions, votes
from memepool_rounds.store.results import CarryTaken
from memepool_rounds.store.rounds import StoredRound
from memepool_rounds.store.votes import StoredVote
from memepool_rounds.use_cases.counting import rejected_events

GAP_MAX: Final = timedelta(seconds=5)
"""A longer time between two looks was downtime: the wait starts again."""
COMPUTING_S_MAX: Final = 120
"""How long the arithmetic of a very large round may keep its transaction waiting."""
TOO_LATE: Final = "not_held_in_time"


async def look_at_closing_rounds(
    database: Database, *, now: datetime, timeout_after: timedelta, consuming: bool
) -> None:
    """Tally the closing rounds that are due, each in its own transaction.

    `consuming`: whether the answers of payments are being consumed; only such time is waited.
    """
    async with database.read() as session:
        closing = await rounds.ids_in(session, RoundState.CLOSING)
    for round_id in closing:
        async with database.transaction() as session:
            await look_at(
                session, round_id, now=now, timeout_after=timeout_after, consuming=consuming
            )


async def look_at(
    session: Session, round_id: int, *, now: datetime, timeout_after: timedelta, consuming: bool
) -> None:
    """Tally one round if it is due, else note how long it has waited."""
    current = await rounds.by_id(session, round_id, " for update")
    if current is None or current.state is not RoundState.CLOSING:
        return
    waited = waited_on(
        current.waited,
        since_last=now - (current.looked_at or now),
        gap_max=GAP_MAX,
        consuming=consuming,
    )
    pending = await votes.any_pending(session, round_id)
    if tally_is_due(pending=pending, waited=waited, timeout=timeout_after):
        await tally_round(session, current, now)
    else:
        await rounds.set_waited(session, round_id, waited, now)


async def tally_round(session: Session, current: StoredRound, now: datetime) -> None:
    """Make a closing round's results final. The caller holds its row FOR UPDATE, so that no vote
    is placed or counted meanwhile."""
    state = advance(current.state, Fact.TALLIED)
    if current.closing_hash is None:
        raise AssertionError("a closing round has a closing block")
    await session.exec_driver_sql(
        f"set local idle_in_transaction_session_timeout = '{COMPUTING_S_MAX}s'"
    )
    late = await votes.reject_pending_of(session, current.id, TOO_LATE)
    await outbox.append(session, rejected_events(current.id, late))
    counted = await votes.counted_of(session, current.id)
    entered = (await submissions.of_rounds(session, [current.id]))[current.id]
    sources = await results.take_carry(session, current.id) if counted else []
    carry_in = sum(source.amount for source in sources)
    outcome = await asyncio.to_thread(  # seconds, where there are very many votes
        outcome_of,
        str(current.id),
        current.policy,
        counted,
        {each.content_id: each.creator_id for each in entered},
        carry_in=carry_in,
        closing_block_hash=current.closing_hash,
    )
    await results.insert(session, current.id, carry_in, outcome)
    await rounds.set_closed(session, current.id, state, now)
    withdrawn = await submissions.left(session, current.id)
    closed = _closed(current, outcome, sources, late, withdrawn, now)
    await outbox.append(session, [events.about_round(events.ROUND_CLOSED, closed.round_id, closed)])


def _closed(
    current: StoredRound,
    outcome: Outcome,
    sources: list[CarryTaken],
    late: list[StoredVote],
    withdrawn: list[UUID],
    now: datetime,
) -> events.RoundClosedData:
    return events.RoundClosedData(
        round_id=str(current.id),
        closing_block_height=current.closing_height or 0,
        closing_block_hash=current.closing_hash or "",
        policy=current.policy.document(),
        counted_votes=outcome.tally.counted_votes,
        stakes=outcome.tally.stakes,
        carry_in=sum(source.amount for source in sources),
        carry_sources=[
            events.CarrySource(round_id=str(each.round_id), amount=each.amount) for each in sources
        ],
        pot=outcome.distribution.pot,
        fee=outcome.distribution.fee,
        carry_out=outcome.distribution.carry_out,
        ranking=[
            events.RankedMeme(
                content_id=each.content_id,
                creator_id=each.creator_id,
                stakes=each.stakes,
                backers=each.backers,
                rank=each.rank,
            )
            for each in outcome.tally.ranking
        ],
        rewards=[
            events.RewardLine(recipient=each.recipient, amount=each.amount, reason=each.reason)
            for each in outcome.distribution.rewards
        ],
        roots=events.Roots(votes=outcome.roots.votes, rewards=outcome.roots.rewards),
        void=[vote.id for vote in late],
        withdrawn=withdrawn,
        closed_at=now,
    )
