"""`Prefer: wait=2`, in all ways in which RFC 7240 lets it be written."""

import pytest

from memepool_rounds.api.deps import preferred_wait_s


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=2", 2),
        ("Wait=2", 2),
        ('wait="2"', 2),
        ("wait = 2", 2),
        ("respond-async, wait=5", 5),
        ("respond-async,wait=5;x=y", 5),
        ("return=minimal; wait=5", 5),
        ("wait=3, wait=9", 3),
        ("wait=999999", 999_999),
        ("wait=0", 0),
        ("", 0),
        ("wait", 0),
        ("wait=", 0),
        ("wait=-1", 0),
        ("wait=1.5", 0),
        ("wait=2s", 0),
        ('wait="2', 0),
        ("wait=\u0662", 0),
        ("wait=9999999", 0),
        ("await=2", 0),
        ("x-wait=2", 0),
    ],
)
def test_what_is_understood_is_waited_for_and_nothing_else(prefer: str, seconds: float) -> None:
    assert preferred_wait_s(prefer) == seconds
