"""A reward policy: data, not code. Shares are basis points of the pot and fill it exactly."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from memepool_rounds.domain.errors import InvalidPolicy

BASIS_POINTS: Final = 10_000
PLACES_MAX: Final = 100
TIERS_MAX: Final = 20
BACKERS_MAX: Final = 20_000
SATS_MAX: Final = 21 * 10**14
CREATORS_BP_MIN: Final = 3_334
"""Of a bucket smaller than a third of the pot, largest remainders may give a meme with more stakes
less: the satoshi that the bucket grows by can take two larger memes past it."""

Curve = Literal["linear", "sqrt"]
CURVES: Final[tuple[Curve, ...]] = ("linear", "sqrt")


@dataclass(frozen=True, slots=True)
class Tier:
    """Backers from place `first` to `last` of the winning meme share `bp` equally."""

    first: int
    last: int
    bp: int


@dataclass(frozen=True, slots=True)
class Policy:
    """How a pot becomes rewards. Shares are basis points of the whole pot.

    Attributes:
        id: its name.
        fee_bp: to the platform.
        creators_bp: to the creators, by the stakes on their memes: nothing, or a third and more.
        places_bp: to the creators of the first, second, ... meme; never rising, so that a
            creator's reward never falls when its meme gets more.
        tiers: to the first backers of the winning meme; tiers follow each other from place 1.
        min_stake: satoshis, the least that a vote carries.
        curve: how a voter's total on a meme scores when memes are ranked.
    """

    id: str
    fee_bp: int
    creators_bp: int
    places_bp: tuple[int, ...]
    tiers: tuple[Tier, ...]
    min_stake: int
    curve: Curve

    def __post_init__(self) -> None:
        _check(self)

    def document(self) -> dict[str, object]:
        """The policy as it travels in events and answers."""
        return {
            "id": self.id,
            "feeBp": self.fee_bp,
            "creatorsBp": self.creators_bp,
            "placesBp": list(self.places_bp),
            "tiers": [{"first": t.first, "last": t.last, "bp": t.bp} for t in self.tiers],
            "minStake": self.min_stake,
            "curve": self.curve,
        }


def policy_of(document: Mapping[str, Any]) -> Policy:
    """The policy that `document()` wrote; InvalidPolicy."""
    return Policy(
        id=document["id"],
        fee_bp=document["feeBp"],
        creators_bp=document["creatorsBp"],
        places_bp=tuple(document["placesBp"]),
        tiers=tuple(Tier(t["first"], t["last"], t["bp"]) for t in document["tiers"]),
        min_stake=document["minStake"],
        curve=document["curve"],
    )


def _check(policy: Policy) -> None:
    shares = [policy.fee_bp, policy.creators_bp, *policy.places_bp, *(t.bp for t in policy.tiers)]
    _require(all(share >= 0 for share in shares), "no share may be negative")
    _require(
        sum(shares) == BASIS_POINTS,
        f"the shares must add up to {BASIS_POINTS} basis points, not {sum(shares)}",
    )
    _require(
        policy.creators_bp == 0 or policy.creators_bp >= CREATORS_BP_MIN,
        f"creators share nothing, or {CREATORS_BP_MIN} basis points or more",
    )
    _require(len(policy.places_bp) <= PLACES_MAX, f"at most {PLACES_MAX} places")
    _require(
        list(policy.places_bp) == sorted(policy.places_bp, reverse=True),
        "a later place may not get more than an earlier one",
    )
    _require(len(policy.tiers) <= TIERS_MAX, f"at most {TIERS_MAX} tiers")
    expected = 1
    for tier in policy.tiers:
        _require(
            tier.first == expected <= tier.last,
            f"tiers follow each other without gaps: one must start at place {expected}",
        )
        expected = tier.last + 1
    _require(expected - 1 <= BACKERS_MAX, f"at most {BACKERS_MAX} backers share")
    _require(1 <= policy.min_stake <= SATS_MAX, f"minStake is 1 to {SATS_MAX} satoshis")
    _require(policy.curve in CURVES, f"curve is one of {', '.join(CURVES)}")


def _require(condition: bool, detail: str) -> None:
    if not condition:
        raise InvalidPolicy(detail)


STANDARD_1: Final = Policy(
    id="standard-1",
    fee_bp=200,
    creators_bp=5000,
    places_bp=(576, 288, 96),
    tiers=(Tier(1, 5, 1920), Tier(6, 50, 1152), Tier(51, 100, 768)),
    min_stake=1,
    curve="linear",
)
