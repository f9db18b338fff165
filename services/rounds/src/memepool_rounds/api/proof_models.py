"""What proves a tallied round: the bundle, and inclusion proofs."""

from typing import Literal
from uuid import UUID

from memepool_common.web.model import PositiveSats, Sats, WireModel
from memepool_rounds.api.models import (
    CarrySource,
    PolicyModel,
    RankedMeme,
    RewardLine,
    Roots,
)
from memepool_rounds.domain.roots import SumNode
from memepool_rounds.use_cases.proving import Proof


class BlockPoint(WireModel):
    """The block that closed the round, as first seen."""

    height: int
    hash: str


class OpeningBlock(BlockPoint):
    """The block that opened the round; its 80 bytes in hex."""

    header: str


class BundleSubmission(WireModel):
    """A meme that was in the round to the end."""

    content_id: UUID
    creator_id: UUID
    version: int
    sha256: str


class BundleVote(WireModel):
    """A counted vote."""

    amount: PositiveSats
    content_id: UUID
    sequence: int
    vote_id: UUID
    voter_id: UUID


class BundleInputs(WireModel):
    """What the outcome follows from. `headers` (80 bytes each, in hex) lead from the opening
    block's height to the closing block."""

    carry_sources: list[CarrySource]
    closing_block: BlockPoint
    headers: list[str]
    network: str
    opening_block: OpeningBlock
    policy: PolicyModel
    round_id: str
    submissions: list[BundleSubmission]
    votes: list[BundleVote]


class BundleResults(WireModel):
    """What anyone must find."""

    carry_out: Sats
    fee: Sats
    pot: Sats
    ranking: list[RankedMeme]
    rewards: list[RewardLine]
    roots: Roots


class Bundle(WireModel):
    """Everything needed to recompute a round offline. Canonical JSON: keys sorted, no spaces."""

    format: Literal["memepool-round-1"]
    inputs: BundleInputs
    results: BundleResults


class ProvenReward(WireModel):
    """A line of the sum tree; the fee and the carry-out have no recipient."""

    recipient: str
    reason: str
    amount: Sats


class ProofStep(WireModel):
    """A sibling on the way up, and its side; `sum` only in the tree of rewards."""

    side: Literal["left", "right"]
    hash: str
    sum: Sats | None


class InclusionProof(WireModel):
    """From a leaf to a published root, root = H(2, count, sum, top). One of `vote` and `reward` is
    what is proven; `index` is its place among the leaves."""

    round_id: str
    tree: Literal["votes", "rewards"]
    root: str
    count: int
    sum: Sats
    index: int
    vote: BundleVote | None
    reward: ProvenReward | None
    path: list[ProofStep]

    @classmethod
    def of(cls, round_id: int, proof: Proof) -> "InclusionProof":
        vote, reward = proof.vote, proof.reward
        return cls(
            round_id=str(round_id),
            tree=proof.tree,
            root=proof.root,
            count=proof.count,
            sum=proof.total,
            index=proof.index,
            vote=vote
            and BundleVote(
                amount=vote.amount,
                content_id=vote.content_id,
                sequence=vote.sequence,
                vote_id=vote.id,
                voter_id=vote.voter_id,
            ),
            reward=reward and ProvenReward(recipient=reward[0], reason=reward[1], amount=reward[2]),
            path=[_step(each.side, each.node) for each in proof.steps],
        )


def _step(side: Literal["left", "right"], node: SumNode | bytes) -> ProofStep:
    if isinstance(node, bytes):
        return ProofStep(side=side, hash=node.hex(), sum=None)
    return ProofStep(side=side, hash=node.digest.hex(), sum=node.total)
