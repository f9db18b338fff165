"""The events that rounds publishes. It owns their schemas: only optional fields may be added.

Votes travel in batches as columns: the same position in every list is the same vote.
"""

from typing import Literal
from uuid import UUID

from memepool_common.events import NewEvent
from memepool_common.events.envelope import INTERNAL, PUBLIC
from memepool_common.web.model import PositiveSats, Sats, Timestamp, WireModel

BLOCK_CONNECTED = "memepool.rounds.block.connected.v1"
BLOCK_DISCONNECTED = "memepool.rounds.block.disconnected.v1"
ROUND_OPENED = "memepool.rounds.round.opened.v1"
ROUND_CLOSED = "memepool.rounds.round.closed.v1"
ROUND_SETTLED = "memepool.rounds.round.settled.v1"
ROUND_FINALITY = "memepool.rounds.round.finality.v1"
MEME_SUBMITTED = "memepool.rounds.meme.submitted.v1"
MEME_WITHDRAWN = "memepool.rounds.meme.withdrawn.v1"
VOTE_PLACED = "memepool.rounds.vote.placed.v1"
VOTE_COUNTED = "memepool.rounds.vote.counted.v1"
VOTE_REJECTED = "memepool.rounds.vote.rejected.v1"


class BlockData(WireModel, extra="forbid"):
    """A block joined the active chain, or left it. `header` is 80 bytes in hex; `tipVersion`
    rises with every change of the tip, so that late events are told from news."""

    height: int
    hash: str
    header: str
    tip_version: int


class RoundOpenedData(WireModel, extra="forbid"):
    """A round opened at a block; `roundId` is the block's height as text."""

    round_id: str
    block_height: int
    block_hash: str
    policy_id: str
    min_stake: PositiveSats
    opened_at: Timestamp


class MemeSubmittedData(WireModel, extra="forbid"):
    """A meme entered a round, with the image that counts for it."""

    round_id: str
    content_id: UUID
    creator_id: UUID
    version: int
    sha256: str
    submitted_at: Timestamp


class MemeWithdrawnData(WireModel, extra="forbid"):
    """A meme left its round before the tally: its stakes go back."""

    round_id: str
    content_id: UUID
    creator_id: UUID
    reason: Literal["withdrawn", "removed"]
    withdrawn_at: Timestamp


class VotesPlacedData(WireModel, extra="forbid"):
    """Votes that wait for payments to hold their stakes."""

    round_id: str
    vote_id: list[UUID]
    voter_id: list[UUID]
    content_id: list[UUID]
    amount: list[PositiveSats]
    sequence: list[int]
    placed_at: Timestamp


class Tallies(WireModel, extra="forbid"):
    """Where memes stand after a batch. Of two, a meme's larger stakes are the later: they only grow
    while it is in the round, and batches are not counted in the order of `sequence`."""

    content_id: list[UUID]
    stakes: list[Sats]
    backers: list[int]


class VotesCountedData(WireModel, extra="forbid"):
    """Votes whose stakes are held: they count. `tallies` has the memes that they changed."""

    round_id: str
    vote_id: list[UUID]
    voter_id: list[UUID]
    content_id: list[UUID]
    amount: list[PositiveSats]
    sequence: list[int]
    tallies: Tallies
    pot: Sats


class VotesRejectedData(WireModel, extra="forbid"):
    """Votes that do not count; whatever is held for them goes back."""

    round_id: str
    vote_id: list[UUID]
    voter_id: list[UUID]
    content_id: list[UUID]
    amount: list[PositiveSats]
    reason: list[str]


class CarrySource(WireModel, extra="forbid"):
    """What a settled round left, taken into this round's pot."""

    round_id: str
    amount: PositiveSats


class RankedMeme(WireModel, extra="forbid"):
    """A meme's place. Only memes with counted stakes rank."""

    content_id: UUID
    creator_id: UUID
    stakes: PositiveSats
    backers: int
    rank: int


class RewardLine(WireModel, extra="forbid"):
    """One reward; a recipient may have several, each with its reason."""

    recipient: UUID
    amount: PositiveSats
    reason: str


class Roots(WireModel, extra="forbid"):
    """Merkle root over the counted votes, Merkle-sum root over fee, carry-out and rewards; hex."""

    votes: str
    rewards: str


class RoundClosedData(WireModel, extra="forbid"):
    """The tally and the whole reward table: pot = stakes + carryIn = fee + rewards + carryOut.
    `bundleSha256` is of the bytes of GET /rounds/{id}/bundle."""

    round_id: str
    closing_block_height: int
    closing_block_hash: str
    policy: dict[str, object]
    counted_votes: int
    stakes: Sats
    carry_in: Sats
    carry_sources: list[CarrySource]
    pot: Sats
    fee: Sats
    carry_out: Sats
    ranking: list[RankedMeme]
    rewards: list[RewardLine]
    roots: Roots
    void: list[UUID]
    withdrawn: list[UUID]
    closed_at: Timestamp
    bundle_sha256: str | None


class RoundSettledData(WireModel, extra="forbid"):
    """The rewards of a round are in the ledger; or, `refunded`, all its stakes go back instead, and
    it has neither fee nor carry-out."""

    round_id: str
    pot: Sats
    fee: Sats
    carry_out: Sats
    settled_at: Timestamp
    refunded: bool


class RoundFinalityData(WireModel, extra="forbid"):
    """How sure the closing block of a round is."""

    round_id: str
    closing_block_hash: str
    finality: str


EVENTS: dict[str, type[WireModel]] = {
    BLOCK_CONNECTED: BlockData,
    BLOCK_DISCONNECTED: BlockData,
    ROUND_OPENED: RoundOpenedData,
    ROUND_CLOSED: RoundClosedData,
    ROUND_SETTLED: RoundSettledData,
    ROUND_FINALITY: RoundFinalityData,
    MEME_SUBMITTED: MemeSubmittedData,
    MEME_WITHDRAWN: MemeWithdrawnData,
    VOTE_PLACED: VotesPlacedData,
    VOTE_COUNTED: VotesCountedData,
    VOTE_REJECTED: VotesRejectedData,
}

_AUDIENCES = {
    VOTE_PLACED: INTERNAL,
    VOTE_COUNTED: "rows:voterId",
    VOTE_REJECTED: "rows:voterId",
}


def about_block(event_type: str, data: BlockData) -> NewEvent:
    """BLOCK_CONNECTED or BLOCK_DISCONNECTED."""
    return NewEvent(event_type, data.hash, data, PUBLIC, data.tip_version)


def about_round(event_type: str, round_id: str, data: WireModel, version: int = 1) -> NewEvent:
    """Any event of a round, its memes or its votes."""
    return NewEvent(event_type, round_id, data, _AUDIENCES.get(event_type, PUBLIC), version)
