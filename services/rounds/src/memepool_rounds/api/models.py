"""Answers and requests, exactly as clients know them."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from memepool_common.web.model import (
    MoneyModel,
    PositiveSats,
    RequestModel,
    Sats,
    Timestamp,
    WireModel,
)
from memepool_rounds.domain.policy import (
    BACKERS_MAX,
    BASIS_POINTS,
    PLACES_MAX,
    TIERS_MAX,
    Policy,
    Tier,
)
from memepool_rounds.store.chain_view import Reorganisation
from memepool_rounds.store.policies import StoredPolicy
from memepool_rounds.store.results import StoredResult, Summary
from memepool_rounds.store.rounds import StoredRound
from memepool_rounds.store.submissions import StoredSubmission
from memepool_rounds.store.votes import StoredVote
from memepool_rounds.use_cases.entering import Entry

BasisPoints = Annotated[int, Field(strict=True, ge=0, le=BASIS_POINTS)]
Place = Annotated[int, Field(strict=True, ge=1, le=BACKERS_MAX)]
Height = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]


class TierModel(WireModel):
    """Backers from place `first` to `last` of the winning meme share `bp` basis points."""

    first: Place
    last: Place
    bp: BasisPoints


class PolicyModel(WireModel):
    """A reward policy: basis points of the pot, adding up to 10,000."""

    id: str
    fee_bp: BasisPoints
    creators_bp: BasisPoints
    places_bp: list[BasisPoints]
    tiers: list[TierModel]
    min_stake: PositiveSats
    curve: Literal["linear", "sqrt"]

    @classmethod
    def of(cls, policy: Policy) -> "PolicyModel":
        return cls.model_validate(policy.document())


class PolicyRequest(RequestModel):
    """A policy for rounds that open at `fromHeight` or later; without it, for the next round."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    fee_bp: BasisPoints
    creators_bp: BasisPoints
    places_bp: list[BasisPoints] = Field(max_length=PLACES_MAX)
    tiers: list[TierModel] = Field(max_length=TIERS_MAX)
    min_stake: PositiveSats
    curve: Literal["linear", "sqrt"] = "linear"
    from_height: Height | None = None

    def policy(self) -> Policy:
        """The policy as a value; InvalidPolicy."""
        return Policy(
            id=self.id,
            fee_bp=self.fee_bp,
            creators_bp=self.creators_bp,
            places_bp=tuple(self.places_bp),
            tiers=tuple(Tier(each.first, each.last, each.bp) for each in self.tiers),
            min_stake=self.min_stake,
            curve=self.curve,
        )


class ScheduledPolicy(PolicyModel):
    """A policy with the height from which rounds open with it."""

    from_height: int
    created_at: Timestamp

    @classmethod
    def scheduled(cls, stored: StoredPolicy) -> "ScheduledPolicy":
        return cls.model_validate(
            {
                **stored.policy.document(),
                "fromHeight": stored.from_height,
                "createdAt": stored.created_at,
            }
        )


class SubmissionRequest(RequestModel):
    """The caller's own meme."""

    content_id: UUID


class Submission(WireModel):
    """A meme in a round, with the image that counts there and its counted stakes so far; `queued`
    memes wait for the next round with room and have no round yet. States may grow."""

    round_id: str | None
    content_id: UUID
    creator_id: UUID
    state: Literal["entered", "queued", "withdrawn", "removed"]
    version: int
    sha256: str
    stakes: Sats
    backers: int
    submitted_at: Timestamp

    @classmethod
    def of(cls, stored: StoredSubmission) -> "Submission":
        return cls(
            round_id=str(stored.round_id),
            content_id=stored.content_id,
            creator_id=stored.creator_id,
            state=stored.state,
            version=stored.version,
            sha256=stored.sha256,
            stakes=stored.stakes,
            backers=stored.backers,
            submitted_at=stored.submitted_at,
        )

    @classmethod
    def fresh(cls, entry: Entry) -> "Submission":
        return cls(
            round_id=None if entry.round_id is None else str(entry.round_id),
            content_id=entry.content_id,
            creator_id=entry.creator_id,
            state="queued" if entry.round_id is None else "entered",
            version=entry.version,
            sha256=entry.sha256,
            stakes=0,
            backers=0,
            submitted_at=entry.submitted_at,
        )


class Round(WireModel):
    """A round; its id is the height of the block that opened it, as text. `pot` is what has been
    counted so far, and with the carry-in once the round is closed. A `refunded` round paid nothing:
    all stakes went back. States may grow."""

    id: str
    block_height: int
    block_hash: str
    state: Literal["open", "closing", "closed", "settled", "refunded"]
    start_time: Timestamp
    end_time: Timestamp | None
    submissions: list[Submission]
    pot: Sats
    policy: PolicyModel
    finality: str | None

    @classmethod
    def of(cls, stored: StoredRound, entered: list[StoredSubmission], pot: int) -> "Round":
        return cls(
            id=str(stored.id),
            block_height=stored.id,
            block_hash=stored.block_hash,
            state=stored.state.value,
            start_time=stored.opened_at,
            end_time=stored.closing_at,
            submissions=[Submission.of(each) for each in entered],
            pot=pot,
            policy=PolicyModel.of(stored.policy),
            finality=stored.finality,
        )


class VoteRequest(MoneyModel):
    """A stake on a meme in the round; without an amount, the policy's minimum stake."""

    content_id: UUID
    amount: PositiveSats | None = None


class Vote(WireModel):
    """A vote; `pending` until payments has answered. `sequence` is the order of placement, and
    has gaps. States and reasons may grow."""

    id: UUID
    round_id: str
    content_id: UUID
    voter_id: UUID
    amount: PositiveSats
    state: Literal["pending", "counted", "rejected"]
    reason: str | None
    sequence: int
    placed_at: Timestamp

    @classmethod
    def of(cls, stored: StoredVote) -> "Vote":
        return cls(
            id=stored.id,
            round_id=str(stored.round_id),
            content_id=stored.content_id,
            voter_id=stored.voter_id,
            amount=stored.amount,
            state=stored.state,
            reason=stored.reason,
            sequence=stored.sequence,
            placed_at=stored.placed_at,
        )


class CarrySource(WireModel):
    """What a settled round left, taken into this round's pot."""

    round_id: str
    amount: PositiveSats


class RankedMeme(WireModel):
    """A meme's place."""

    content_id: UUID
    creator_id: UUID
    stakes: PositiveSats
    backers: int
    rank: int


class RewardLine(WireModel):
    """One reward. Reasons: `creator`, `place:<rank>`, `backers:<first>-<last>`; they may grow."""

    recipient: UUID
    amount: PositiveSats
    reason: str


class Roots(WireModel):
    """Merkle root over the counted votes, Merkle-sum root over fee, carry-out and rewards."""

    votes: str
    rewards: str


class Results(WireModel):
    """pot = stakes + carryIn = fee + rewards + carryOut."""

    round_id: str
    pot: Sats
    carry_in: Sats
    carry_sources: list[CarrySource]
    fee: Sats
    carry_out: Sats
    ranking: list[RankedMeme]
    rewards: list[RewardLine]
    roots: Roots
    settlement_txid: str | None
    finality: str | None

    @classmethod
    def of(cls, stored: StoredRound, result: StoredResult) -> "Results":
        return cls(
            round_id=str(stored.id),
            pot=result.pot,
            carry_in=result.carry_in,
            carry_sources=[
                CarrySource(round_id=str(each.round_id), amount=each.amount)
                for each in result.carry_sources
            ],
            fee=result.fee,
            carry_out=result.carry_out,
            ranking=[
                RankedMeme(
                    content_id=each.content_id,
                    creator_id=each.creator_id,
                    stakes=each.stakes,
                    backers=each.backers,
                    rank=each.rank,
                )
                for each in result.ranking
            ],
            rewards=[
                RewardLine(recipient=each.recipient, amount=each.amount, reason=each.reason)
                for each in result.rewards
            ],
            roots=Roots(votes=result.roots.votes, rewards=result.roots.rewards),
            settlement_txid=stored.settlement_txid,
            finality=stored.finality,
        )


class ReorganisationModel(WireModel):
    """The active branch was left at `forkHeight`; `depth` blocks went stale."""

    at: Timestamp
    fork_height: int
    depth: int
    old_tip: str
    new_tip: str

    @classmethod
    def of(cls, seen: Reorganisation) -> "ReorganisationModel":
        return cls(
            at=seen.at,
            fork_height=seen.fork_height,
            depth=seen.depth,
            old_tip=seen.old_tip,
            new_tip=seen.new_tip,
        )


class ChainTip(WireModel):
    """The last block of the active branch, checked by us. `version` grows with every move."""

    height: int
    hash: str
    version: int


class Chain(WireModel):
    """What the follower sees. `lagBlocks` is how far we are behind the source's word."""

    network: str
    tip: ChainTip | None
    source_height: int | None
    source_hash: str | None
    lag_blocks: int | None
    polled_at: Timestamp | None
    failing_since: Timestamp | None
    last_error: str | None
    recent_reorganisations: list[ReorganisationModel]


def pot_of(stored: StoredRound, summaries: dict[int, Summary], live: dict[int, int]) -> int:
    """A tallied round's pot; before the tally, its counted stakes."""
    summary = summaries.get(stored.id)
    return live.get(stored.id, 0) if summary is None else summary.pot
