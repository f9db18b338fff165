"""Look-ups among a million hashes: `python -m benchmarks.content.near_index`.

Half of the hashes are random, half come in families of a thousand that are 16 to 28 bits from each
other, as memes of one template are; every query asks for eight forms, one of them of a family.
"""

import random
import resource
import statistics
import sys
import time

import numpy as np

from memepool_content.adapters.near_index import NearIndex
from memepool_content.domain.originality import DISTANCE_MAX

MS_MAX = 5.0
HASHES, FAMILY, QUERIES, UNSORTED = 1_000_000, 1_000, 500, 8_000


def hashes(rng: np.random.Generator) -> np.ndarray:
    """Random ones and families, mixed, as rows of 32 bytes."""
    alone = rng.integers(0, 256, (HASHES // 2, 32), np.uint8)
    heads = rng.integers(0, 256, (HASHES // 2 // FAMILY, 32), np.uint8)
    families = np.repeat(heads, FAMILY, axis=0)
    for _ in range(11):  # flips of one bit: two relatives are up to 22 apart
        at = rng.integers(0, 256, len(families))
        families[np.arange(len(families)), at // 8] ^= (1 << (at % 8)).astype(np.uint8)
    mixed = np.concatenate([alone, families])
    rng.shuffle(mixed)
    return mixed


def main() -> bool:
    """Fill the index, ask it, print what that took; whether the goal is met."""
    made = hashes(np.random.default_rng(1))
    index = NearIndex()
    started = time.perf_counter()
    sorted_ones = HASHES - UNSORTED
    index.add(list(range(1, sorted_ones + 1)), [row.tobytes() for row in made[:sorted_ones]])
    index.sort_in()
    print(f"sorted in {sorted_ones:,} in {time.perf_counter() - started:.1f} s")
    index.add(list(range(sorted_ones + 1, HASHES + 1)), [r.tobytes() for r in made[sorted_ones:]])
    rng = random.Random(2)
    took_ms, found = [], 0
    for _ in range(QUERIES):
        forms = [rng.randbytes(32) for _ in range(7)] + [made[rng.randrange(HASHES)].tobytes()]
        started = time.process_time()
        found += len(index.near(forms, DISTANCE_MAX))
        took_ms.append((time.process_time() - started) * 1e3)
    took_ms.sort()
    print(
        f"{QUERIES} look-ups of 8 forms among {HASHES:,}: median"
        f" {statistics.median(took_ms):.2f} ms,"
        f" 99 % {took_ms[int(QUERIES * 0.99)]:.2f} ms, {found} found, CPU time"
    )
    assert found >= QUERIES
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    return took_ms[int(QUERIES * 0.99)] < MS_MAX


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
