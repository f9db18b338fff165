"""The demo's checks see a single missing satoshi."""

from typing import Any

import pytest

from memepool_sandbox.accounting import check_pot

RESULTS: dict[str, Any] = {
    "pot": 1_000,
    "carryIn": 100,
    "fee": 20,
    "carryOut": 80,
    "ranking": [{"stakes": 600}, {"stakes": 300}],
    "rewards": [{"amount": 500}, {"amount": 400}],
}


def test_a_round_that_adds_up() -> None:
    assert all(check.holds for check in check_pot(RESULTS, 900))


@pytest.mark.parametrize("field", ["pot", "carryIn", "fee", "carryOut"])
def test_one_satoshi_off_is_seen(field: str) -> None:
    results = {**RESULTS, field: RESULTS[field] + 1}
    assert not all(check.holds for check in check_pot(results, 900))


def test_votes_that_the_results_do_not_know_are_seen() -> None:
    assert not all(check.holds for check in check_pot(RESULTS, 901))
