"""The page of problem codes against the code that answers them."""

import re

import pytest

from tools.contracts import PROBLEMS, ROOT
from tools.problems import COMPUTED

PAGE = (ROOT / PROBLEMS).read_text()
ROWS = re.findall(r"^\| `(\w+)` \| (\d+) \| ([\w, ]+) \| (.+) \|$", PAGE, re.MULTILINE)


def test_every_row_has_a_code_a_status_and_words() -> None:
    assert len(ROWS) == PAGE.count("\n| `")
    assert len({(code, status) for code, status, _, _ in ROWS}) == len(ROWS) > 60
    assert all(400 <= int(status) < 600 and words.strip() for _, status, _, words in ROWS)


@pytest.mark.parametrize(("code", "status", "service"), COMPUTED)
def test_what_is_listed_by_hand_is_in_the_code(code: str, status: int, service: str) -> None:
    folder = "libs/common/src" if service == "all" else f"services/{service}/src"
    folders = (ROOT / folder, ROOT / "libs/chain/src")  # whose errors services pass on
    texts = [path.read_text() for each in folders for path in each.rglob("*.py")]
    assert any(f'"{code}"' in text for text in texts)
    assert (code, str(status)) in {(row[0], row[1]) for row in ROWS}


@pytest.mark.parametrize(
    ("code", "status", "service"),
    [
        ("body_too_large", "413", "gateway"),
        ("round_not_found", "404", "rounds"),
        ("insufficient_funds", "422", "payments"),
        ("nonce_used", "401", "auth"),
        ("duplicate_content", "409", "content"),
        ("not_built_yet", "501", "all"),
    ],
)
def test_codes_from_every_service_are_found(code: str, status: str, service: str) -> None:
    (row,) = [row for row in ROWS if row[:2] == (code, status)]
    assert service in row[2].split(", ")
