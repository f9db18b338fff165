"""When is an image a copy of another one? Measured in docs/adr/0051-near-duplicates.md.

A copy has a PDQ hash (in one of its eight mirrored and turned forms) within `DISTANCE_MAX` bits of
256. Images with less to see than `PDQ_QUALITY_MIN` are compared by their exact hashes only.
"""

DISTANCE_MAX = 12
PDQ_QUALITY_MIN = 50
"""Of 100, PDQ's own advice."""
