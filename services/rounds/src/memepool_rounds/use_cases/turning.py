"""A block ends the open round and opens the next one, in one transaction."""

from datetime import datetime, timedelta

from memepool_chain.headerstore import Tip
from memepool_common.db import Session
from memepool_common.events import outbox
from memepool_rounds import events
from memepool_rounds.domain.rounds import Fact, OpenRound, Turn, advance, turn_at
from memepool_rounds.store import policies, rounds, submissions, votes
from memepool_rounds.store.rounds import StoredRound
from memepool_rounds.use_cases.entering import Entry, admit


async def turn_round(
    session: Session,
    tip: Tip,
    *,
    caught_up: bool,
    now: datetime,
    minimum_age: timedelta,
    submissions_max: int,
) -> Turn:
    """Do what the active tip means for the open round; returns what that was."""

    async def look(current: StoredRound | None) -> Turn:
        seen = None
        if current is not None:
            has_votes = await votes.any_in(session, current.id)
            seen = OpenRound(current.id, current.opened_at, current.passed_height, has_votes)
        return turn_at(
            seen, tip_height=tip.height, caught_up=caught_up, now=now, minimum_age=minimum_age
        )

    if await look(await rounds.open_one(session)) is Turn.NONE:
        return Turn.NONE
    # Memes before rounds, as everywhere: a removal that waits for us has not locked its round yet.
    await submissions.lock_queue(session)
    current = await rounds.open_one(session, " for update")
    if current is None and await rounds.exists_any(session):
        return Turn.NONE  # another follower was faster
    turn = await look(current)
    if current is not None and turn is Turn.IGNORED:
        await rounds.pass_over(session, current.id, tip.height)
    if turn is Turn.BOUNDARY:
        if current is not None:
            state = advance(current.state, Fact.BOUNDARY)
            await rounds.set_closing(session, current.id, state, tip.height, tip.hash, now)
        await _open(session, tip, submissions_max, now)
    return turn


async def _open(session: Session, tip: Tip, submissions_max: int, now: datetime) -> None:
    policy = await policies.for_height(session, tip.height)
    await rounds.insert(session, tip.height, tip.hash, policy, now)
    data = events.RoundOpenedData(
        round_id=str(tip.height),
        block_height=tip.height,
        block_hash=tip.hash,
        policy_id=policy.id,
        min_stake=policy.min_stake,
        opened_at=now,
    )
    await outbox.append(session, [events.about_round(events.ROUND_OPENED, str(tip.height), data)])
    # Again: while we waited for the round, memes may have joined the queue.
    queue = await submissions.lock_queue(session, wait=False)
    barred = [each.content_id for each in queue if not each.eligible]
    await submissions.take_from_queue(session, barred)
    entering = [each for each in queue if each.eligible][:submissions_max]
    wanted = [each.content_id for each in entering]
    # Not all of them: whoever names an older round leaves the queue without this one's lock.
    waiting = set(await submissions.take_from_queue(session, wanted))
    entries = [
        Entry(tip.height, each.content_id, each.creator_id, each.version, each.sha256, now)
        for each in entering
        if each.content_id in waiting
    ]
    await admit(session, tip.height, entries)
