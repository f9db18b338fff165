"""Results of tallied rounds, and the carry between rounds."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text

from memepool_common.db import Session
from memepool_rounds.domain.bundle import Inputs
from memepool_rounds.domain.outcome import Outcome
from memepool_rounds.domain.rewards import Distribution, Reward
from memepool_rounds.domain.roots import Chunk, Roots
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
    carry_out: int
    roots: Roots
    carry_sources: tuple[CarryTaken, ...]
    ranking: tuple[Ranked, ...]
    rewards: tuple[Reward, ...]
    bundle_sha256: str

    @property
    def distribution(self) -> Distribution:
        """What became of the pot."""
        return Distribution(self.pot, self.fee, self.carry_out, self.rewards)


@dataclass(frozen=True, slots=True)
class Summary:
    """What payments must agree with, and what a settled round shows."""

    pot: int
    fee: int
    rewards: int
    carry_out: int


async def insert(
    session: Session,
    inputs: Inputs,
    outcome: Outcome,
) -> None:
    """Store a round's result, once and for all."""
    round_id = inputs.round_id
    tally, distribution, roots = outcome.tally, outcome.distribution, outcome.roots
    await session.execute(
        text(
            "insert into result (round_id, counted_votes, stakes, carry_in, pot, fee, rewards,"
            " carry_out, votes_root, rewards_root, bundle_sha256) values (:round, :counted_votes,"
            " :stakes, :carry_in, :pot, :fee, :rewards, :carry_out, :votes_root, :rewards_root,"
            " :bundle_sha256)"
        ),
        {
            "round": round_id,
            "counted_votes": tally.counted_votes,
            "stakes": tally.stakes,
            "carry_in": inputs.carry_in,
            "pot": distribution.pot,
            "fee": distribution.fee,
            "rewards": sum(line.amount for line in distribution.rewards),
            "carry_out": distribution.carry_out,
            "votes_root": roots.votes,
            "rewards_root": roots.rewards,
            "bundle_sha256": outcome.bundle_sha256,
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
    await _insert_chunks(session, round_id, outcome.chunks)


async def _insert_chunks(session: Session, round_id: int, found: Sequence[Chunk]) -> None:
    await session.execute(
        text(
            "insert into vote_chunk (round_id, position, first_sequence, digest)"
            " select :round, n.position - 1, n.first_sequence, n.digest"
            " from unnest(cast(:sequences as bigint[]), cast(:digests as bytea[]))"
            " with ordinality as n (first_sequence, digest, position)"
        ),
        {
            "round": round_id,
            "sequences": [chunk.first_sequence for chunk in found],
            "digests": [chunk.digest for chunk in found],
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
    sources = await carry_sources(session, round_id)
    return StoredResult(
        round_id=round_id,
        counted_votes=row.counted_votes,
        stakes=row.stakes,
        carry_in=row.carry_in,
        pot=row.pot,
        fee=row.fee,
        carry_out=row.carry_out,
        roots=Roots(row.votes_root, row.rewards_root),
        carry_sources=tuple(sources),
        ranking=tuple(Ranked(*each) for each in ranking),
        rewards=tuple(Reward(*each) for each in rewards),
        bundle_sha256=row.bundle_sha256,
    )


async def chunks(session: Session, round_id: int) -> list[Chunk]:
    """The nodes of the tree over a tallied round's votes, one per chunk of votes."""
    query = text(
        "select first_sequence, digest from vote_chunk where round_id = :round order by position"
    )
    found = await session.execute(query, {"round": round_id})
    return [Chunk(sequence, bytes(digest)) for sequence, digest in found]


async def summaries(session: Session, round_ids: Sequence[int]) -> dict[int, Summary]:
    """The sums of tallied rounds."""
    query = text(
        "select round_id, pot, fee, rewards, carry_out from result where round_id = any(:ids)"
    )
    found = await session.execute(query, {"ids": list(round_ids)})
    return {round_id: Summary(*sums) for round_id, *sums in found}


async def take_carry(session: Session, round_id: int) -> None:
    """Take all free carry into a round; each can be taken once."""
    query = text(
        "with taken as (update carry set taken_by = :round"
        "  where taken_by is null and round_id <> :round returning round_id, amount)"
        " insert into carry_taken (round_id, source_id, amount)"
        " select :round, round_id, amount from taken"
    )
    await session.execute(query, {"round": round_id})


async def carry_sources(session: Session, round_id: int) -> list[CarryTaken]:
    """What a round took in its tally, also if it was refunded and another has it by now."""
    query = text(
        "select source_id, amount from carry_taken where round_id = :round order by source_id"
    )
    return [CarryTaken(*row) for row in await session.execute(query, {"round": round_id})]


async def release_carry(session: Session, round_id: int) -> None:
    """Give back what a round has taken: a later one may take it."""
    query = text("update carry set taken_by = null where taken_by = :round")
    await session.execute(query, {"round": round_id})


async def leave_carry(session: Session, round_id: int, amount: int) -> None:
    """A settled round leaves its carry-out for a later one."""
    query = text("insert into carry (round_id, amount) values (:round, :amount)")
    await session.execute(query, {"round": round_id, "amount": amount})
