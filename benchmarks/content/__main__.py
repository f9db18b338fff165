"""All benchmarks of content, one after the other: `python -m benchmarks.content`.

Exit code 1 when a goal is missed.
"""

import sys

from benchmarks.content import delivery, near_index, validation

if __name__ == "__main__":
    met = [validation.main(), near_index.main(), delivery.main()]
    sys.exit(0 if all(met) else 1)
