"""What needs no server: header checks per second, and the outcome of a large round.

    python -m benchmarks.rounds.pure [--votes 100000] [--headers 5000]

One core; seconds are of processor time, since other work on the machine is not ours. The reference
of the header checks is the bare double SHA-256 of the same headers, in the same run. Peak memory is
of the whole process, measured in a process of its own.
"""

import argparse
import hashlib
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from uuid import UUID

from memepool_chain.difficulty import RETARGET_ANCESTORS, check_header, required_bits
from memepool_chain.header import parse_header
from memepool_chain.network import MAIN, REGTEST
from memepool_chain.testing import genesis, grow
from memepool_rounds.domain.bundle import Entered, Inputs
from memepool_rounds.domain.outcome import Outcome, Reckoning
from memepool_rounds.domain.policy import STANDARD_1
from memepool_rounds.domain.tally import CountedVote

PAGE = 5_000
MEMES, VOTERS = 100, 10_000
REPETITIONS = 3


def inputs_of(memes: list[UUID]) -> Inputs:
    """A round with these memes."""
    entered = tuple(
        Entered(meme, UUID(int=n), 1, "00" * 32) for n, meme in enumerate(memes, start=1)
    )
    return Inputs(
        round_id=840_000,
        network="main",
        opening=(840_000, "11" * 32, bytes(80)),
        closing=(840_001, "22" * 32),
        headers=(bytes(80), bytes(80)),
        policy=replace(STANDARD_1, id="benchmark"),
        carry_sources=(),
        entered=entered,
    )


def pages(count: int, memes: list[UUID], rng: Random) -> Iterator[list[CountedVote]]:
    """Votes by sequence, a page at a time; a fifth of them on one meme."""
    voters = [str(UUID(int=rng.getrandbits(128))) for _ in range(VOTERS)]
    texts = [str(meme) for meme in memes]
    for start in range(0, count, PAGE):
        yield [
            CountedVote(
                id=str(UUID(int=rng.getrandbits(128))),
                voter_id=rng.choice(voters),
                content_id=texts[0] if rng.random() < 0.2 else rng.choice(texts),
                amount=rng.randint(1, 10**6),
                sequence=sequence,
            )
            for sequence in range(start + 1, min(start + PAGE, count) + 1)
        ]


def reckon(count: int) -> tuple[float, int]:
    """Seconds for ranking, rewards, both roots and the bundle's hash; peak memory in bytes."""
    rng = Random(1)
    memes = [UUID(int=rng.getrandbits(128)) for _ in range(MEMES)]
    reckoning = Reckoning(inputs_of(memes))
    spent_s = 0.0
    for page in pages(count, memes, rng):  # making the votes is not measured
        started_s = time.process_time()
        reckoning.add(page)
        spent_s += time.process_time() - started_s
    started_s = time.process_time()
    outcome: Outcome = reckoning.outcome()
    spent_s += time.process_time() - started_s
    assert outcome.tally.counted_votes == count
    return spent_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def header_checks(count: int) -> tuple[float, float]:
    """Headers per second: fully checked as on the main network, and merely hashed.

    The main network's blocks cannot be mined here. So each regtest header is checked for hash,
    work, link and median time, and beside it the main network's 144-block rule is worked out over
    a window of headers whose bits all differ, as they do there.
    """
    first = genesis()
    chain = [first, *grow(first, count)]
    raw = [header.serialize() for header in chain]
    window_size = RETARGET_ANCESTORS
    window = [
        replace(first, bits=0x18000000 + 0x7FFF + n, time=first.time + 600 * n)
        for n in range(count + window_size)
    ]

    def check() -> None:
        before = [parse_header(each) for each in raw[:1]]
        for n, each in enumerate(raw[1:]):
            header = parse_header(each)
            check_header(REGTEST, header, before)
            required_bits(MAIN, window[n : n + window_size])
            before = [*before[-10:], header]

    def bare() -> None:
        for each in raw[1:]:
            hashlib.sha256(hashlib.sha256(each).digest()).digest()

    return count / _best_s(check), count / _best_s(bare)


def _best_s(act: Callable[[], None]) -> float:
    times = []
    for _ in range(REPETITIONS):
        started_s = time.process_time()
        act()
        times.append(time.process_time() - started_s)
    return statistics.median(times)


def main() -> int:
    """Print the table; exit code 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--votes", type=int, default=100_000)
    parser.add_argument("--headers", type=int, default=5_000)
    options = parser.parse_args()
    checked, hashed = header_checks(options.headers)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds, peak_bytes = pool.apply(reckon, (options.votes,))
    peak_mb = peak_bytes / 1e6
    scale = options.votes / 100_000
    rows = [
        ("headers checked per second and core", f"{checked:,.0f}", "20,000", checked >= 20_000),
        ("  bare double SHA-256, same run", f"{hashed:,.0f}", "", True),
        (f"outcome of {options.votes:,} votes, s", f"{seconds:.2f}", f"{scale:g}", seconds < scale),
        ("  peak memory of the process, MB", f"{peak_mb:.0f}", "200", peak_mb < 200),
    ]
    print(f"{'':44} {'measured':>12} {'goal':>8}")
    for name, measured, goal, good in rows:
        print(f"{name:44} {measured:>12} {goal:>8} {'' if good else 'MISSED'}")
    return 0 if all(good for *_, good in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
