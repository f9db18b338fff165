"""All benchmarks of rounds, one after the other: `python -m benchmarks.rounds`.

Exit code 1 when a goal is missed.
"""

import sys

from benchmarks.rounds import pure, saga

if __name__ == "__main__":
    missed = [pure.main(), saga.main()]
    sys.exit(1 if any(missed) else 0)
