"""Which bits a header must carry, and whether a header may follow its ancestors.

A hash below the header's own target proves nothing while the header chooses that target: a lying
source could append minimum-difficulty headers to the real tip. So the exact bits are required.
Main and test use the algorithm in force since November 2017: the target follows the work of the
last 144 blocks, measured between medians of three so that a false time moves little.
"""

from collections.abc import Sequence
from typing import Final

from memepool_chain.header import Header, HeaderError, bits_of, meets_target, target_of, work_of
from memepool_chain.network import Network

SPACING_S: Final = 600
_WINDOW: Final = 144
RETARGET_ANCESTORS: Final = _WINDOW + 3  # the window's first block is a median of three as well
MEDIAN_TIME_ANCESTORS: Final = 11


def ancestors_needed(network: Network) -> int:
    """Return how many ancestors `check_header` wants to see."""
    return RETARGET_ANCESTORS if network.retargets else MEDIAN_TIME_ANCESTORS


def required_bits(network: Network, ancestors: Sequence[Header], *, time: int | None = None) -> int:
    """Return the bits of the block after `ancestors` (oldest first, its parent last).

    `time` is the new block's, which counts on the test network alone: more than 20 minutes after
    the parent, the minimum difficulty will do. Raises HeaderError `missing_ancestors` when the
    algorithm needs more headers than were given.
    """
    if not network.retargets:
        return network.pow_limit_bits
    gap_s = network.min_difficulty_gap_s
    if gap_s is not None and time is not None and ancestors and time > ancestors[-1].time + gap_s:
        return network.pow_limit_bits
    if len(ancestors) < RETARGET_ANCESTORS:
        raise HeaderError(
            "missing_ancestors",
            f"the required bits need {RETARGET_ANCESTORS} ancestors, {len(ancestors)} are known",
        )
    last = _suitable(ancestors, len(ancestors) - 1)
    first = _suitable(ancestors, len(ancestors) - 1 - _WINDOW)
    work = sum(work_of(each.bits) for each in ancestors[first + 1 : last + 1]) * SPACING_S
    elapsed_s = ancestors[last].time - ancestors[first].time
    clamped_s = max(_WINDOW // 2 * SPACING_S, min(elapsed_s, 2 * _WINDOW * SPACING_S))
    expected_hashes = work // clamped_s
    target = ((1 << 256) - expected_hashes) // expected_hashes
    return bits_of(min(target, target_of(network.pow_limit_bits)))


def check_header(network: Network, header: Header, ancestors: Sequence[Header]) -> None:
    """Check link, time, exact bits and proof of work against the ancestors (oldest first).

    Raises HeaderError: `broken_link`, `time_too_old`, `missing_ancestors`, `wrong_bits`,
    `bad_bits`, `no_proof_of_work`.
    """
    if not ancestors or header.prev_hash != ancestors[-1].hash:
        raise HeaderError("broken_link", "the header does not follow its last ancestor")
    times = sorted(each.time for each in ancestors[-MEDIAN_TIME_ANCESTORS:])
    if header.time <= times[len(times) // 2]:
        raise HeaderError("time_too_old", "the time is not after the median of the last 11 blocks")
    bits = required_bits(network, ancestors, time=header.time)
    if header.bits != bits:
        raise HeaderError("wrong_bits", f"bits are {header.bits:#010x}, required {bits:#010x}")
    check_proof_of_work(network, header)


def check_proof_of_work(network: Network, header: Header) -> None:
    """Check the hash against the header's own bits, and these against the network's limit.

    All that can be said of a header whose ancestors are unknown. HeaderError.
    """
    if target_of(header.bits) > target_of(network.pow_limit_bits):
        raise HeaderError("wrong_bits", "the target is above the limit of the network")
    if not meets_target(header):
        raise HeaderError("no_proof_of_work", "the hash does not meet the target")


def _suitable(headers: Sequence[Header], index: int) -> int:
    """Return which of the three headers that end at `index` has the median time.

    Equal times are resolved by the very swaps that nodes make, since the choice decides how much
    work is counted.
    """
    a, b, c = index - 2, index - 1, index
    if headers[a].time > headers[c].time:
        a, c = c, a
    if headers[a].time > headers[b].time:
        a, b = b, a
    if headers[b].time > headers[c].time:
        b, c = c, b
    return b
