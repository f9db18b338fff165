"""Binary arrays: PostgreSQL reads what was written."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from memepool_common import arrays
from memepool_common.db import Database

CASES: list[tuple[str, Callable[[Any], Any], list[Any]]] = [
    ("bigint", arrays.bigints, []),
    ("bigint", arrays.bigints, [0, 1, -1, 2**63 - 1, -(2**63)]),
    ("bigint", arrays.bigints, [5, None, -1]),
    ("int", arrays.ints, [7, -(2**31), 2**31 - 1]),
    ("text", arrays.texts, []),
    ("text", arrays.texts, ["", "a", "NULL", '{"quoted",\\}', "💰\n", None, "z" * 70_000]),
    ("bytea", arrays.byteas, [b"", b"\x00\xff", None]),
    ("uuid", arrays.uuids, [UUID(int=0), None, UUID(int=2**128 - 1)]),
]


@pytest.mark.parametrize(("element", "make", "values"), CASES)
async def test_an_array_arrives_as_it_was_sent(
    database: Database,
    element: str,
    make: Callable[[Any], Any],
    values: list[Any],
) -> None:
    async with database.read() as session:
        row = (await session.exec_driver_sql(f"select %b::{element}[]", (make(values),))).one()
        assert list(row[0]) == values


def test_a_column_of_nulls_is_null_as_a_whole() -> None:
    assert arrays.texts([None, None]) is None
    assert arrays.uuids([None]) is None


def test_what_has_no_utf8_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        arrays.texts(["\ud800"])
