"""The near-duplicate index against comparing everything with everything."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memepool_content.adapters import near_index
from memepool_content.adapters.near_index import DISTANCE_MAX, NearIndex


def turned(value: bytes, flips: int, rng: random.Random) -> bytes:
    number = int.from_bytes(value, "big")
    for bit in rng.sample(range(256), flips):
        number ^= 1 << bit
    return number.to_bytes(32, "big")


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_index, "UNSORTED_MAX", 20)


@given(st.integers(0, 2**32), st.integers(0, DISTANCE_MAX))
def test_finds_what_comparing_all_finds(seed: int, distance_max: int) -> None:
    rng = random.Random(seed)
    index, known = NearIndex(), []
    for start in range(0, 60, 15):
        fresh = [rng.randbytes(32) for _ in range(10)]
        fresh += [turned(rng.choice(fresh), rng.randint(0, 20), rng) for _ in range(5)]
        index.add([start + at + 1 for at in range(15)], fresh)
        known += fresh
        index.sort_in()
    assert index.last == 60
    forms = [turned(rng.choice(known), rng.randint(0, 20), rng) for _ in range(8)]
    wanted = [
        number
        for number, value in enumerate(known, start=1)
        if any(
            (int.from_bytes(value) ^ int.from_bytes(form)).bit_count() <= distance_max
            for form in forms
        )
    ]
    assert index.near(forms, distance_max) == wanted


def test_an_empty_index_and_a_distance_that_it_cannot_promise() -> None:
    index = NearIndex()
    index.sort_in()
    assert index.last == 0
    assert index.near([bytes(32)] * 8, DISTANCE_MAX) == []
    with pytest.raises(ValueError, match="15"):
        index.near([bytes(32)], DISTANCE_MAX + 1)
