"""Counters of users. Every statement is exact whatever comes twice or in another order."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text

from memepool_common.db import Session

# Users are always touched in the order of their ids, so that replicas cannot deadlock.
_UPLOADS = text("""
with fresh as (
  insert into stats_upload (content_id)
  select distinct content_id from unnest(cast(:content_ids as uuid[])) as content_id
  order by content_id
  on conflict do nothing returning content_id
)
insert into user_stats (user_id, uploads)
select g.creator_id, count(distinct g.content_id)
from unnest(cast(:content_ids as uuid[]), cast(:creator_ids as uuid[])) as g(content_id, creator_id)
join fresh using (content_id) group by g.creator_id order by g.creator_id
on conflict (user_id) do update set uploads = user_stats.uploads + excluded.uploads
""")
_SUBMISSIONS = text("""
insert into user_stats (user_id, submissions)
select creator_id, count(*) from unnest(cast(:creator_ids as uuid[])) as creator_id
group by creator_id order by creator_id
on conflict (user_id) do update set submissions = user_stats.submissions + excluded.submissions
""")
# A vote stakes its amount while it is counted and not refunded. Either event may come first, and
# a refund may belong to a vote that never counts, so each vote remembers what it has seen.
_COUNTED = text("""
with given as (
  select distinct on (vote_id) * from unnest(
    cast(:vote_ids as uuid[]), cast(:voter_ids as uuid[]), cast(:amounts as bigint[])
  ) as g(vote_id, voter_id, amount) order by vote_id
), fresh as (
  insert into stats_vote as v (vote_id, counted, refunded)
  select vote_id, true, false from given order by vote_id
  on conflict (vote_id) do update set counted = true where not v.counted
  returning v.vote_id, v.refunded
)
insert into user_stats (user_id, votes, sats_staked)
select g.voter_id, count(*), coalesce(sum(g.amount) filter (where not f.refunded), 0)
from given g join fresh f using (vote_id) group by g.voter_id order by g.voter_id
on conflict (user_id) do update set votes = user_stats.votes + excluded.votes,
  sats_staked = user_stats.sats_staked + excluded.sats_staked
""")
_REFUNDED = text("""
with given as (
  select distinct on (vote_id) * from unnest(
    cast(:vote_ids as uuid[]), cast(:voter_ids as uuid[]), cast(:amounts as bigint[])
  ) as g(vote_id, voter_id, amount) order by vote_id
), fresh as (
  insert into stats_vote as v (vote_id, counted, refunded)
  select vote_id, false, true from given order by vote_id
  on conflict (vote_id) do update set refunded = true where not v.refunded
  returning v.vote_id, v.counted
)
insert into user_stats (user_id, sats_staked)
select g.voter_id, coalesce(-sum(g.amount) filter (where f.counted), 0)
from given g join fresh f using (vote_id) group by g.voter_id order by g.voter_id
on conflict (user_id) do update set sats_staked = user_stats.sats_staked + excluded.sats_staked
""")
# A round's results count from its closing on, and no longer if it is refunded in the end. Either
# event may come first; lines are kept only as long as the end is not known.
_CLOSE = text("""
insert into stats_round as r (round_id, closed) values (:round_id, true)
on conflict (round_id) do update set closed = true where not r.closed returning refunded
""")
_SETTLE = text("""
insert into stats_round as r (round_id, closed, refunded) values (:round_id, false, :refunded)
on conflict (round_id) do update set refunded = excluded.refunded where r.refunded is null
returning closed
""")
_KEEP_RESULTS = text("""
with gained as (
  select user_id, 1 as won, 0::bigint as earned
  from unnest(cast(:winner_ids as uuid[])) as user_id
  union all
  select * from (
    select w.user_id, 0, w.amount
    from unnest(cast(:recipient_ids as uuid[]), cast(:amounts as bigint[])) as w(user_id, amount)
  ) rewards
)
insert into stats_result (round_id, user_id, won, earned)
select :round_id, user_id, sum(won), sum(earned) from gained group by user_id
""")
_ADD_RESULTS = text("""
insert into user_stats (user_id, rounds_won, sats_earned)
select user_id, cast(:sign as int) * won, cast(:sign as int) * earned
from stats_result where round_id = :round_id order by user_id
on conflict (user_id) do update set rounds_won = user_stats.rounds_won + excluded.rounds_won,
  sats_earned = user_stats.sats_earned + excluded.sats_earned
""")
_DROP_RESULTS = text("delete from stats_result where round_id = :round_id")
_LOCK = text("lock table inbox in share row exclusive mode")
_CLEAR = (
    text("delete from user_stats"),
    text("delete from stats_upload"),
    text("delete from stats_vote"),
    text("delete from stats_result"),
    text("delete from stats_round"),
)
_FORGET = text("delete from inbox where consumer = :consumer")


async def clear(session: Session, consumer: str) -> None:
    """Empty the projection and forget which events it has seen, as one change.

    The lock waits for the consumer's transactions and keeps new ones out: none is half in.
    """
    await session.execute(_LOCK)
    for statement in _CLEAR:
        await session.execute(statement)
    await session.execute(_FORGET, {"consumer": consumer})


async def count_uploads(
    session: Session, content_ids: Sequence[UUID], creator_ids: Sequence[UUID]
) -> None:
    """Count memes to their creators, each meme once however often it is published."""
    given = {"content_ids": list(content_ids), "creator_ids": list(creator_ids)}
    await session.execute(_UPLOADS, given)


async def count_submissions(session: Session, creator_ids: Sequence[UUID]) -> None:
    """Count one submission for each creator in the list."""
    await session.execute(_SUBMISSIONS, {"creator_ids": list(creator_ids)})


async def count_votes(
    session: Session,
    vote_ids: Sequence[UUID],
    voter_ids: Sequence[UUID],
    amounts: Sequence[int],
) -> None:
    """Count votes and what they stake."""
    given = {"vote_ids": list(vote_ids), "voter_ids": list(voter_ids), "amounts": list(amounts)}
    await session.execute(_COUNTED, given)


async def take_back_stakes(
    session: Session,
    vote_ids: Sequence[UUID],
    voter_ids: Sequence[UUID],
    amounts: Sequence[int],
) -> None:
    """Stakes that went back are no longer staked."""
    given = {"vote_ids": list(vote_ids), "voter_ids": list(voter_ids), "amounts": list(amounts)}
    await session.execute(_REFUNDED, given)


async def close_round(
    session: Session,
    round_id: str,
    winner_ids: Sequence[UUID],
    recipient_ids: Sequence[UUID],
    amounts: Sequence[int],
) -> None:
    """Count a round's results: a won round for each winner in the list, and rewards."""
    closed = (await session.execute(_CLOSE, {"round_id": round_id})).one_or_none()
    if closed is None or closed.refunded:
        return
    lines = {
        "round_id": round_id,
        "winner_ids": list(winner_ids),
        "recipient_ids": list(recipient_ids),
        "amounts": list(amounts),
    }
    await session.execute(_KEEP_RESULTS, lines)
    await session.execute(_ADD_RESULTS, {"round_id": round_id, "sign": 1})
    if closed.refunded is not None:
        await session.execute(_DROP_RESULTS, {"round_id": round_id})


async def settle_round(session: Session, round_id: str, *, refunded: bool) -> None:
    """A round has come to its end; if it is refunded, nobody has won or earned anything in it."""
    given = {"round_id": round_id, "refunded": refunded}
    settled = (await session.execute(_SETTLE, given)).one_or_none()
    if settled is None or not settled.closed:
        return
    if refunded:
        await session.execute(_ADD_RESULTS, {"round_id": round_id, "sign": -1})
    await session.execute(_DROP_RESULTS, {"round_id": round_id})
