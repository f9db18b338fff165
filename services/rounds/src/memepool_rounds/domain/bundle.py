"""The bundle of a tallied round: what anyone needs to recompute it, offline, as canonical JSON.

Canonical: keys sorted, no spaces, UTF-8, integers only. It never changes: settlement, finality and
state are not in it, nor are wallet addresses. Since keys are sorted, the votes stand between what
else the outcome follows from and the outcome, so it is written in one pass over the votes.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from memepool_rounds.domain.policy import Policy
from memepool_rounds.domain.rewards import Distribution
from memepool_rounds.domain.roots import Roots
from memepool_rounds.domain.tally import CountedVote, Ranked

FORMAT: Final = "memepool-round-1"


@dataclass(frozen=True, slots=True)
class Entered:
    """A meme that was in the round to the end, with the image that it had there."""

    content_id: UUID
    creator_id: UUID
    version: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the outcome follows from, but for the votes.

    Attributes:
        opening: height, hash and header (80 bytes) of the block that opened the round.
        headers: those that lead from the opening block's height to the closing block, the last; the
            first is the opening block's unless a reorganisation took that away.
        carry_sources: (round, amount) of each carry that was taken, by round.
        entered: in the order in which they came.
    """

    round_id: int
    network: str
    opening: tuple[int, str, bytes]
    closing: tuple[int, str]
    headers: tuple[bytes, ...]
    policy: Policy
    carry_sources: tuple[tuple[int, int], ...]
    entered: tuple[Entered, ...]

    @property
    def carry_in(self) -> int:
        """What all taken carries bring into the pot."""
        return sum(amount for _, amount in self.carry_sources)


def opening_part(inputs: Inputs) -> bytes:
    """Everything up to the first vote."""
    height, block_hash, header = inputs.opening
    document = {
        "carrySources": [
            {"amount": amount, "roundId": str(round_id)}
            for round_id, amount in inputs.carry_sources
        ],
        "closingBlock": {"hash": inputs.closing[1], "height": inputs.closing[0]},
        "headers": [each.hex() for each in inputs.headers],
        "network": inputs.network,
        "openingBlock": {"hash": block_hash, "header": header.hex(), "height": height},
        "policy": inputs.policy.document(),
        "roundId": str(inputs.round_id),
        "submissions": [
            {
                "contentId": str(each.content_id),
                "creatorId": str(each.creator_id),
                "sha256": each.sha256,
                "version": each.version,
            }
            for each in inputs.entered
        ],
    }
    written = _canonical(document)[:-1]
    return f'{{"format":"{FORMAT}","inputs":{written},"votes":['.encode()


def votes_part(votes: Iterable[CountedVote], *, first: bool) -> bytes:
    """The next votes, by sequence; `first`: none has been written before."""
    written = ",".join(
        f'{{"amount":{vote.amount},"contentId":"{vote.content_id}","sequence":{vote.sequence},'
        f'"voteId":"{vote.id}","voterId":"{vote.voter_id}"}}'
        for vote in votes
    )
    return (written if first or not written else "," + written).encode()


def closing_part(ranking: Sequence[Ranked], distribution: Distribution, roots: Roots) -> bytes:
    """Everything after the last vote."""
    document = {
        "carryOut": distribution.carry_out,
        "fee": distribution.fee,
        "pot": distribution.pot,
        "ranking": [
            {
                "backers": each.backers,
                "contentId": str(each.content_id),
                "creatorId": str(each.creator_id),
                "rank": each.rank,
                "stakes": each.stakes,
            }
            for each in ranking
        ],
        "rewards": [
            {"amount": each.amount, "reason": each.reason, "recipient": str(each.recipient)}
            for each in distribution.rewards
        ],
        "roots": {"rewards": roots.rewards, "votes": roots.votes},
    }
    return f']}},"results":{_canonical(document)}}}'.encode()


def _canonical(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
