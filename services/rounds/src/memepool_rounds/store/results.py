"""Results of tallied rounds, and the carry between rounds."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text

from memepool_common.db import Session
from memepool_rounds.domain.outcome import Outcome
from memepool_rounds.domain.rewards import Reward
from memepool_rounds.domain.roots import Roots
from memepool_rounds.domain.tally import Ranked


@dataclass(frozen=True, slots=True)
class CarryTaken:
    """What a settled round left, taken by a later one."""

    round_id: int
    amount: int


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A tallied round: pot = stakes + carry-in = fee + rewards + carry-out."""

    round_id: int
    counted_votes: int
    stakes: int
    carry_in: int
    pot: int
    fee: int
    rewards_total: int
    carry_out: int
    roots: Roots
    carry_sources: tuple[CarryTaken, ...]
    ranking: tuple[Ranked, ...]
    rewards: tuple[Reward, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What payments must agree with, and what a settled round shows."""

    pot: int
    fee: int
    rewards: int
    carry_out: int


async def insert(
    session: Session,
    round_id: int,
    carry_in: int,
    outcome: Outcome,
) -> None:
    """Store a round's result, once and for all."""
    tally, distribution, roots = outcome.tally, outcome.distribution, outcome.roots
    await session.execute(
        text(
            "insert into result (round_id, counted_votes, stakes, carry_in, pot, fee, rewards,"
            " carry_out, votes_root, rewards_root) values (:round, :counted_votes, :stakes,"
            " :carry_in, :pot, :fee, :rewards, :carry_out, :votes_root, :rewards_root)"
        ),
        {
            "round": round_id,
            "counted_votes": tally.counted_votes,
            "stakes": tally.stakes,
            "carry_in": carry_in,
            "pot": distribution.pot,
            "fee": distribution.fee,
            "rewards": sum(line.amount for line in distribution.rewards),
            "carry_out": distribution.carry_out,
            "votes_root": roots.votes,
            "rewards_root": roots.rewards,
        },
    )
    await session.execute(
        text(
            "insert into ranking (round_id, rank, content_id, creator_id, stakes, backers)"
            " select :round, * from unnest(cast(:ranks as integer[]), cast(:contents as uuid[]),"
            " cast(:creators as uuid[]), cast(:stakes as bigint[]), cast(:backers as bigint[]))"
        ),
        {
            "round": round_id,
            "ranks": [each.rank for each in tally.ranking],
            "contents": [each.content_id for each in tally.ranking],
            "creators": [each.creator_id for each in tally.ranking],
            "stakes": [each.stakes for each in tally.ranking],
            "backers": [each.backers for each in tally.ranking],
        },
    )
    await session.execute(
        text(
            "insert into reward (round_id, line, recipient, amount, reason)"
            " select :round, n.line, n.recipient, n.amount, n.reason"
            " from unnest(cast(:recipients as uuid[]), cast(:amounts as bigint[]),"
            " cast(:reasons as text[])) with ordinality as n (recipient, amount, reason, line)"
        ),
        {
            "round": round_id,
            "recipients": [line.recipient for line in distribution.rewards],
            "amounts": [line.amount for line in distribution.rewards],
            "reasons": [line.reason for line in distribution.rewards],
        },
    )


async def of_round(session: Session, round_id: int) -> StoredResult | None:
    """The result of a round, or None before its tally."""
    values = {"round": round_id}
    row = (
        await session.execute(text("select * from result where round_id = :round"), values)
    ).one_or_none()
    if row is None:
        return None
    ranking = await session.execute(
        text(
            "select content_id, creator_id, stakes, backers, rank from ranking"
            " where round_id = :round order by rank"
        ),
        values,
    )
    rewards = await session.execute(
        text("select recipient, amount, reason from reward where round_id = :round order by line"),
        values,
    )
    sources = await session.execute(
        text("select round_id, amount from carry where taken_by = :round order by round_id"), values
    )
    return StoredResult(
        round_id=round_id,
        counted_votes=row.counted_votes,
        stakes=row.stakes,
        carry_in=row.carry_in,
        pot=row.pot,
        fee=row.fee,
        rewards_total=row.rewards,
        carry_out=row.carry_out,
        roots=Roots(row.votes_root, row.rewards_root),
        carry_sources=tuple(CarryTaken(*each) for each in sources),
        ranking=tuple(Ranked(*each) for each in ranking),
        rewards=tuple(Reward(*each) for each in rewards),
    )


async def summaries(session: Session, round_ids: Sequence[int]) -> dict[int, Summary]:
    """The sums of tallied rounds."""
    query = text(
        "select round_id, pot, fee, rewards, carry_out from result where round_id = any(:ids)"
    )
    found = await session.execute(query, {"ids": list(round_ids)})
    return {round_id: Summary(*sums) for round_id, *sums in found}


async def take_carry(session: Session, round_id: int) -> list[CarryTaken]:
    """Take all free carry into a round; each can be taken once."""
    query = text(
        "with taken as (update carry set taken_by = :round"
        "  where taken_by is null and round_id <> :round returning round_id, amount)"
        " select * from taken order by round_id"
    )
    return [CarryTaken(*row) for row in await session.execute(query, {"round": round_id})]


async def leave_carry(session: Session, round_id: int, amount: int) -> None:
    """A settled round leaves its carry-out for a later one."""
    query = text("insert into carry (round_id, amount) values (:round, :amount)")
    await session.execute(query, {"round": round_id, "amount": amount})
