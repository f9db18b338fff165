"""What a policy must be."""

from dataclasses import replace
from typing import Any

import pytest

from memepool_rounds.domain.errors import InvalidPolicy
from memepool_rounds.domain.policy import BASIS_POINTS, SATS_MAX, STANDARD_1, Tier


def test_the_standard_policy_is_the_published_one() -> None:
    assert STANDARD_1.document() == {
        "id": "standard-1",
        "feeBp": 200,
        "creatorsBp": 5000,
        "placesBp": [576, 288, 96],
        "tiers": [
            {"first": 1, "last": 5, "bp": 1920},
            {"first": 6, "last": 50, "bp": 1152},
            {"first": 51, "last": 100, "bp": 768},
        ],
        "minStake": 1,
        "curve": "linear",
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fee_bp": 201}, f"{BASIS_POINTS} basis points, not 10001"),
        ({"fee_bp": -200, "creators_bp": 5400}, "negative"),
        ({"creators_bp": 3333, "fee_bp": 1867}, "3334 basis points or more"),
        ({"places_bp": (288, 576, 96)}, "later place"),
        ({"places_bp": (*(9,) * 106, 6)}, "at most 100 places"),
        ({"tiers": (Tier(2, 5, 3840),)}, "must start at place 1"),
        ({"tiers": (Tier(1, 5, 3840), Tier(7, 9, 0))}, "must start at place 6"),
        ({"tiers": (Tier(1, 0, 3840),)}, "must start at place 1"),
        ({"tiers": (Tier(1, 20_001, 3840),)}, "at most 20000 backers"),
        ({"tiers": tuple(Tier(n, n, 160) for n in range(1, 25))}, "at most 20 tiers"),
        ({"min_stake": 0}, "minStake"),
        ({"min_stake": SATS_MAX + 1}, "minStake"),
        ({"curve": "cubic"}, "curve is one of"),
    ],
)
def test_a_policy_that_breaks_a_rule_is_refused_with_the_rule(
    change: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidPolicy, match=said):
        replace(STANDARD_1, **change)
