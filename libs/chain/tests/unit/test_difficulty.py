"""Required bits: the nodes' own test of the 144-block algorithm, and what a liar may not do."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memepool_chain import difficulty
from memepool_chain.difficulty import (
    RETARGET_ANCESTORS,
    ancestors_needed,
    check_header,
    check_proof_of_work,
    required_bits,
)
from memepool_chain.header import Header, HeaderError, bits_of, target_of, work_of
from memepool_chain.network import MAIN, REGTEST, TEST, Network
from memepool_chain.testing import EASY_BITS, RETARGETING, genesis, grow, mine

LIMIT_BITS = MAIN.pow_limit_bits


class Blocks:
    """Headers of which only time and bits matter, as the algorithm sees them."""

    def __init__(self) -> None:
        self.bits = 0x1C0FFFFF  # a sixteenth of the limit
        start = 1_269_211_443
        self.headers = [self._header(start + 600 * i) for i in range(2_050)]

    def _header(self, time: int) -> Header:
        return Header(1, "00" * 32, "00" * 32, time, self.bits, 0)

    def add(self, step_s: int) -> int:
        self.headers.append(self._header(self.headers[-1].time + step_s))
        return required_bits(MAIN, self.headers[-RETARGET_ANCESTORS:])

    def follow(self, step_s: int, count: int) -> list[int]:
        """Add blocks that obey, and return the targets that were required after each."""
        targets = []
        for _ in range(count):
            self.bits = self.add(step_s)
            targets.append(target_of(self.bits))
        return targets


def test_the_nodes_own_scenario_to_the_bit() -> None:
    """The scenario and every literal are those of the node's `cash_difficulty_test`."""
    blocks = Blocks()
    initial = blocks.bits
    assert required_bits(MAIN, blocks.headers) == initial
    assert [blocks.add(600) for _ in range(10)] == [initial] * 10
    # One block far in the future, the next where it should be: nothing moves.
    assert blocks.add(6_000) == initial
    assert blocks.add(2 * 600 - 6_000) == initial
    assert [blocks.add(600) for _ in range(20)] == [initial] * 20
    # Slightly faster: no effect at first, then slowly harder.
    assert blocks.add(550) == initial
    assert_steps(target_of(initial), blocks.follow(550, 10), harder=True, shift=10)
    assert blocks.bits == 0x1C0FE7B1
    before = target_of(blocks.bits)
    assert_steps(before, blocks.follow(10, 20), harder=True, shift=4)
    assert blocks.bits == 0x1C0DB19F
    # Much slower.
    blocks.follow(6_000, 1)
    assert blocks.bits == 0x1C0D9222
    before = target_of(blocks.bits)
    assert_steps(before, blocks.follow(6_000, 93), harder=False, shift=3)
    assert blocks.bits == 0x1C2F13B9
    # The window is bounded: the next one is harder, before it goes on getting easier.
    blocks.follow(6_000, 1)
    assert blocks.bits == 0x1C2EE9BF
    before = target_of(blocks.bits)
    assert_steps(before, blocks.follow(6_000, 192), harder=False, shift=3)
    assert blocks.bits == LIMIT_BITS
    assert set(blocks.follow(6_000, 5)) == {target_of(LIMIT_BITS)}


def assert_steps(before: int, targets: Sequence[int], *, harder: bool, shift: int) -> None:
    for target in targets:
        assert (target < before) is harder
        assert abs(target - before) < before >> shift
        before = target


def reference_bits(headers: Sequence[Header], limit: int) -> int:
    """The algorithm once more, as its specification words it: medians by sorting."""

    def median_of_three(index: int) -> int:
        three = [(headers[i].time, i) for i in (index - 2, index - 1, index)]
        return sorted(three)[1][1]

    last, first = median_of_three(len(headers) - 1), median_of_three(len(headers) - 145)
    span = min(max(headers[last].time - headers[first].time, 72 * 600), 288 * 600)
    work = sum(work_of(each.bits) for each in headers[first + 1 : last + 1]) * 600 // span
    return bits_of(min((2**256 - work) // work, limit))


@given(st.lists(st.integers(-3_000, 9_000), min_size=147, max_size=147))
def test_any_times_and_bits_agree_with_the_specification(steps: list[int]) -> None:
    time = 1_600_000_000
    headers: list[Header] = []
    used: set[int] = set()
    for index, step in enumerate(steps):
        time += step
        while time in used:  # equal times are the node's scenario's business
            time += 1
        used.add(time)
        bits = 0x1800_0000 | (0x020000 + 37 * index * abs(step) % 0x500000)
        headers.append(Header(1, "00" * 32, "00" * 32, time, bits, 0))
    assert required_bits(MAIN, headers) == reference_bits(headers, target_of(LIMIT_BITS))


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ((1, 2, 3), 1),
        ((3, 2, 1), 1),
        ((2, 1, 3), 0),
        ((2, 3, 1), 0),
        ((1, 3, 2), 2),
        ((3, 1, 2), 2),
        # Equal times: whichever the nodes' swaps leave in the middle.
        ((1, 1, 1), 1),
        ((1, 1, 2), 1),
        ((2, 1, 1), 1),
        ((1, 2, 2), 1),
        ((2, 2, 1), 1),
        ((1, 2, 1), 2),
        ((2, 1, 2), 0),
    ],
)
def test_the_median_of_three_is_the_block_that_nodes_pick(
    times: tuple[int, int, int], chosen: int
) -> None:
    headers = [Header(1, "00" * 32, "00" * 32, time, LIMIT_BITS, 0) for time in times]
    assert difficulty._suitable(headers, 2) == chosen


def code_of(network: Network, header: Header, ancestors: Sequence[Header]) -> str:
    with pytest.raises(HeaderError) as caught:
        check_header(network, header, ancestors)
    return caught.value.code


@pytest.fixture(scope="module")
def window() -> list[Header]:
    """A mined run of headers that is long enough for the algorithm."""
    first = genesis()
    return [first, *grow(first, RETARGET_ANCESTORS, bits=EASY_BITS)][-RETARGET_ANCESTORS:]


def test_a_header_with_the_required_bits_follows(window: list[Header]) -> None:
    bits = required_bits(RETARGETING, window)
    assert target_of(bits) < target_of(REGTEST.pow_limit_bits)
    check_header(RETARGETING, mine(window[-1], bits=bits), window)


def test_a_liar_cannot_choose_easier_bits(window: list[Header]) -> None:
    cheap = mine(window[-1], bits=REGTEST.pow_limit_bits)
    assert code_of(RETARGETING, cheap, window) == "wrong_bits"
    harder = mine(window[-1], bits=EASY_BITS - 1)
    assert code_of(RETARGETING, harder, window) == "wrong_bits"


def test_too_few_ancestors_are_said_to_be_too_few(window: list[Header]) -> None:
    header = mine(window[-1], bits=EASY_BITS)
    assert code_of(RETARGETING, header, window[1:]) == "missing_ancestors"


def test_a_hash_that_misses_its_target(window: list[Header]) -> None:
    bits = required_bits(RETARGETING, window)
    lazy = mine(window[-1], bits=bits, proven=False)
    assert code_of(RETARGETING, lazy, window) == "no_proof_of_work"
    with pytest.raises(HeaderError, match="does not meet"):
        check_proof_of_work(RETARGETING, lazy)


def test_regtest_is_fixed_at_its_limit() -> None:
    first = genesis()
    check_header(REGTEST, mine(first), [first])
    assert code_of(REGTEST, mine(first, bits=EASY_BITS), [first]) == "wrong_bits"
    assert ancestors_needed(REGTEST) == 11


def test_links_must_hold() -> None:
    first = genesis()
    a, b = grow(first, 2)
    assert code_of(REGTEST, b, [first]) == "broken_link"
    assert code_of(REGTEST, a, []) == "broken_link"


@pytest.mark.parametrize(("seconds_after_median", "accepted"), [(0, False), (-1, False), (1, True)])
def test_time_must_pass_the_median_of_eleven(seconds_after_median: int, accepted: bool) -> None:
    line = [genesis(), *grow(genesis(), 20)]
    median = line[-6].time
    header = mine(line[-1], time_step_s=median + seconds_after_median - line[-1].time)
    if accepted:
        check_header(REGTEST, header, line)
    else:
        assert code_of(REGTEST, header, line) == "time_too_old"


def test_near_the_first_block_the_median_is_of_what_there_is() -> None:
    first = genesis()
    assert code_of(REGTEST, mine(first, time_step_s=0), [first]) == "time_too_old"
    check_header(REGTEST, mine(first, time_step_s=1), [first])


def test_the_test_network_forgives_after_twenty_minutes() -> None:
    headers = Blocks().headers[-RETARGET_ANCESTORS:]
    usual, last = headers[-1].bits, headers[-1].time
    assert required_bits(TEST, headers, time=last + 1_200) == usual
    assert required_bits(TEST, headers, time=last + 1_201) == LIMIT_BITS
    assert required_bits(MAIN, headers, time=last + 1_201) == usual


def test_a_target_above_the_limit_is_no_work() -> None:
    header = mine(genesis(), bits=0x207FFFFF)
    with pytest.raises(HeaderError) as caught:
        check_proof_of_work(MAIN, header)
    assert caught.value.code == "wrong_bits"
