"""For tests: chains of real headers at a difficulty that a test can mine."""

from dataclasses import replace
from typing import Final

from memepool_chain.header import Header, meets_target, parse_header
from memepool_chain.network import REGTEST, Network

# The real algorithm of main, at a limit where a block costs a few hundred hashes.
RETARGETING: Final = replace(REGTEST, name="retargeting", retargets=True)
EASY_BITS: Final = 0x2007FFFF  # sixteen times the work of the limit


def mine(
    parent: Header,
    *,
    time_step_s: int = 600,
    bits: int = REGTEST.pow_limit_bits,
    merkle_root: str = "11" * 32,
    proven: bool = True,
) -> Header:
    """Find the child of this header; with `proven=False`, one whose hash misses its target."""
    nonce = 0
    while True:
        header = Header(1, parent.hash, merkle_root, parent.time + time_step_s, bits, nonce)
        if meets_target(header) is proven:
            return header
        nonce += 1


def grow(parent: Header, count: int, *, name: str = "11", bits: int | None = None) -> list[Header]:
    """Mine a branch; branches of another name (a byte in hex) differ in every header."""
    branch = []
    for _ in range(count):
        parent = mine(parent, merkle_root=name * 32, bits=bits or REGTEST.pow_limit_bits)
        branch.append(parent)
    return branch


def genesis(network: Network = REGTEST) -> Header:
    """The network's first header."""
    return parse_header(network.genesis_header)
