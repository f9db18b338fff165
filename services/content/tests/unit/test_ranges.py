"""Ranges, for any header."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from memepool_content.api.ranges import UnsatisfiableError, none_match, requested_range

ETAG = '"abc"'


@given(st.text(max_size=40), st.integers(1, 10_000))
def test_any_header_gives_a_range_inside_or_none(header: str, size: int) -> None:
    for text in (header, f"bytes={header}"):
        with contextlib.suppress(UnsatisfiableError):
            found = requested_range(text, None, ETAG, size)
            assert found is None or 0 <= found[0] < found[1] <= size


@given(st.integers(0, 99), st.integers(0, 200))
def test_first_and_last(first: int, last: int) -> None:
    found = requested_range(f"bytes={first}-{last}", None, ETAG, 100)
    assert found == (None if last < first else (first, min(last + 1, 100)))


@given(st.text(max_size=40))
def test_any_condition_is_answered(header: str) -> None:
    assert none_match(header, ETAG) is (header.strip() == "*" or ETAG in header)
