"""What proves a tallied round: its bundle, and that a vote or a reward is under its roots."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from memepool_common.db import Database, Session
from memepool_rounds.domain import bundle, roots
from memepool_rounds.domain.bundle import Entered, Inputs
from memepool_rounds.domain.errors import RewardNotFound, VoteNotFound
from memepool_rounds.domain.roots import CHUNK_VOTES, Step, SumNode
from memepool_rounds.store import chain_view, results, submissions, votes
from memepool_rounds.store.results import StoredResult
from memepool_rounds.store.rounds import StoredRound
from memepool_rounds.store.votes import StoredVote

VOTES_PER_PAGE: Final = 5_000
FIXED_LINES: Final = {"fee": 0, "carryOut": 1}
"""The first leaves of the sum tree, before the rewards."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The way from a leaf to a root: root = H(2, count, total, top).

    `steps` are over hashes in the tree of votes, and over sums and hashes in that of rewards;
    exactly one of `vote` and `reward` (recipient, reason, amount) is what the leaf is of.
    """

    tree: Literal["votes", "rewards"]
    root: str
    count: int
    total: int
    index: int
    steps: list[Step[SumNode]] | list[Step[bytes]]
    vote: StoredVote | None = None
    reward: tuple[str, str, int] | None = None


async def inputs_of(session: Session, current: StoredRound, network: str) -> Inputs:
    """What the outcome of a round with a closing block follows from, but for the votes."""
    if current.closing_hash is None or current.closing_height is None:
        raise AssertionError("only a round with a closing block has an outcome")
    entered = (await submissions.of_rounds(session, [current.id]))[current.id]
    return Inputs(
        round_id=current.id,
        network=network,
        opening=(
            current.id,
            current.block_hash,
            await chain_view.header_bytes(session, current.block_hash),
        ),
        closing=(current.closing_height, current.closing_hash),
        headers=tuple(await chain_view.line_of(session, current.closing_hash, down_to=current.id)),
        policy=current.policy,
        carry_sources=tuple(
            (each.round_id, each.amount)
            for each in await results.carry_sources(session, current.id)
        ),
        entered=tuple(
            Entered(each.content_id, each.creator_id, each.version, each.sha256) for each in entered
        ),
    )


async def write_bundle(
    database: Database, inputs: Inputs, result: StoredResult
) -> AsyncIterator[bytes]:
    """The bundle in parts. No transaction stays open while a slow reader takes one: what is
    tallied does not change."""
    yield bundle.opening_part(inputs)
    after = 0
    while True:
        async with database.read() as session:
            page = await votes.counted_page(
                session, inputs.round_id, after=after, limit=VOTES_PER_PAGE
            )
        if not page:
            break
        yield bundle.votes_part(page, first=after == 0)
        after = page[-1].sequence
    yield bundle.closing_part(result.ranking, result.distribution, result.roots)


async def prove_vote(session: Session, result: StoredResult, vote_id: UUID) -> Proof:
    """That a vote counted; VoteNotFound. Reads the votes of one chunk, however many there are."""
    round_id = result.round_id
    vote = await votes.one(session, round_id, vote_id)
    if vote is None or vote.state != "counted":
        raise VoteNotFound(f"There is no counted vote {vote_id} in round {round_id}.")
    chunks = await results.chunks(session, round_id)
    position = max(i for i, each in enumerate(chunks) if each.first_sequence <= vote.sequence)
    neighbours = await votes.counted_page(
        session, round_id, after=chunks[position].first_sequence - 1, limit=CHUNK_VOTES
    )
    place = [each.sequence for each in neighbours].index(vote.sequence)
    leaves = roots.vote_leaves(str(round_id), neighbours)
    digests = [each.digest for each in chunks]
    return Proof(
        tree="votes",
        root=result.roots.votes,
        count=result.counted_votes,
        total=result.stakes,
        index=position * CHUNK_VOTES + place,
        steps=[
            *roots.path(leaves, place, roots.hash_node),
            *roots.path(digests, position, roots.hash_node),
        ],
        vote=vote,
    )


def prove_reward(result: StoredResult, line: str) -> Proof:
    """That a reward (by its position in the results, from 0), `fee` or `carryOut` was published;
    RewardNotFound."""
    index = FIXED_LINES[line] if line in FIXED_LINES else len(FIXED_LINES) + int(line)
    lines = roots.reward_lines(result.distribution)
    if index >= len(lines):
        raise RewardNotFound(f"Round {result.round_id} has {len(lines) - 2} rewards, from 0 on.")
    leaves = roots.reward_leaves(str(result.round_id), result.distribution)
    return Proof(
        tree="rewards",
        root=result.roots.rewards,
        count=len(lines),
        total=result.pot,
        index=index,
        steps=roots.path(leaves, index, roots.sum_nodes),
        reward=lines[index],
    )
