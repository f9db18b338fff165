"""How long failed attempts to sign in are held off: longer each time, and over by itself.

A right signature is never held off. Nobody can guess one, so it is no attempt of an attacker's; and
if it were, whoever shares the owner's network could lock the owner out by failing in their name.
"""

from datetime import timedelta

FIRST_WAIT_S = 2
WAIT_S_MAX = 15 * 60
FORGOTTEN_AFTER = timedelta(hours=1)
"""After this long without a failure, counting begins anew."""


def wait_s(failures: int, free: int) -> int:
    """Seconds of back-off after this many failures in a row, of which `free` cost nothing."""
    if failures <= free:
        return 0
    doublings = min(failures - free - 1, WAIT_S_MAX.bit_length())
    return int(min(WAIT_S_MAX, FIRST_WAIT_S << doublings))
