"""A closing round waits for its last stakes, within bounds, and is then tallied once."""

import asyncio
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from memepool_common.db import Database, Session
from memepool_common.events import outbox
from memepool_rounds import events
from memepool_rounds.domain.bundle import Inputs
from memepool_rounds.domain.outcome import Outcome, Reckoning
from memepool_rounds.domain.rounds import Fact, RoundState, advance, tally_is_due, waited_on
from memepool_rounds.store import results, rounds, submissions, votes
from memepool_rounds.store.rounds import StoredRound
from memepool_rounds.store.votes import StoredVote
from memepool_rounds.use_cases.proving import VOTES_PER_PAGE, inputs_of
from memepool_rounds.use_cases.rejecting import rejected_events

GAP_MAX: Final = timedelta(seconds=5)
"""A longer time between two looks was downtime: the wait starts again."""
COMPUTING_S_MAX: Final = 120
"""How long the arithmetic of a very large round may keep its transaction waiting."""
TOO_LATE: Final = "not_held_in_time"


async def look_at_closing_rounds(
    database: Database, network: str, *, now: datetime, timeout_after: timedelta, consuming: bool
) -> None:
    """Tally the closing rounds that are due, each in its own transaction.

    `consuming`: whether the answers of payments are being consumed; only such time is waited.
    `network`: the chain's name, for the bundle. Raises ExceptionGroup of what failed: a round that
    cannot be tallied holds up no other.
    """
    failures: list[Exception] = []
    async with database.read() as session:
        closing = await rounds.ids_in(session, RoundState.CLOSING)
    for round_id in closing:
        try:
            async with database.transaction() as session:
                await look_at(
                    session,
                    round_id,
                    network,
                    now=now,
                    timeout_after=timeout_after,
                    consuming=consuming,
                )
        except Exception as error:  # noqa: BLE001 - raised below
            failures.append(error)
    if failures:
        raise ExceptionGroup("closing rounds could not be looked at", failures)


async def look_at(
    session: Session,
    round_id: int,
    network: str,
    *,
    now: datetime,
    timeout_after: timedelta,
    consuming: bool,
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
        await tally_round(session, current, network, now)
    else:
        await rounds.set_waited(session, round_id, waited, now)


async def tally_round(session: Session, current: StoredRound, network: str, now: datetime) -> None:
    """Make a closing round's results final. The caller holds its row FOR UPDATE, so that no vote
    is placed or counted meanwhile."""
    state = advance(current.state, Fact.TALLIED)
    await session.exec_driver_sql(
        f"set local idle_in_transaction_session_timeout = '{COMPUTING_S_MAX}s'"
    )
    late = await votes.reject_pending_of(session, current.id, TOO_LATE)
    await outbox.append(session, rejected_events(current.id, late))
    if await votes.any_counted(session, current.id):
        await results.take_carry(session, current.id)
    inputs = await inputs_of(session, current, network)
    reckoning = Reckoning(inputs)
    after = 0
    while page := await votes.counted_page(session, current.id, after=after, limit=VOTES_PER_PAGE):
        await asyncio.to_thread(reckoning.add, page)  # the process has other things to do
        after = page[-1].sequence
    outcome = await asyncio.to_thread(reckoning.outcome)
    await results.insert(session, inputs, outcome)
    await rounds.set_closed(session, current.id, state, now)
    withdrawn = await submissions.left(session, current.id)
    closed = _closed(inputs, outcome, late, withdrawn, now)
    await outbox.append(session, [events.about_round(events.ROUND_CLOSED, closed.round_id, closed)])


def _closed(
    inputs: Inputs,
    outcome: Outcome,
    late: list[StoredVote],
    withdrawn: list[UUID],
    now: datetime,
) -> events.RoundClosedData:
    closing_height, closing_hash = inputs.closing
    return events.RoundClosedData(
        round_id=str(inputs.round_id),
        closing_block_height=closing_height,
        closing_block_hash=closing_hash,
        policy=inputs.policy.document(),
        counted_votes=outcome.tally.counted_votes,
        stakes=outcome.tally.stakes,
        carry_in=inputs.carry_in,
        carry_sources=[
            events.CarrySource(round_id=str(round_id), amount=amount)
            for round_id, amount in inputs.carry_sources
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
        bundle_sha256=outcome.bundle_sha256,
    )
