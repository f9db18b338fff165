import pytest

from tools.lint_project import FILE_LINES_MAX, FUNCTION_LINES_MAX, ROOT, lint_text, source_files

SOURCE = "services/auth/src/memepool_auth/use_cases/users.py"
DOMAIN = "services/auth/src/memepool_auth/domain/users.py"
TEST = "services/auth/tests/test_users.py"


def rules(text: str, path: str = SOURCE) -> list[str]:
    return [finding.rule for finding in lint_text(path, text)]


@pytest.mark.parametrize(
    "text",
    [
        "amount: float",
        "amount: int | float = 0",
        "fee_sats = 0.5",
        "satoshis = -1.0",
        "def f(stake_sats: float): ...",
        "def total_sats() -> float: ...",
        "async def total_sats() -> float: ...",
        "f(amount=1.5)",
        "half = amount / 2",
        "share = 1 / vote.amount_sats",
        "share = row['amount'] / 2",
        "amount_sats /= 2",
        "amounts = total / n",
        "shown = float(transaction.amount)",
    ],
)
def test_money_is_never_a_float(text: str) -> None:
    assert rules(text) == ["money-float"]


@pytest.mark.parametrize(
    "text",
    [
        "amount_sats: int = 5",
        "half = amount // 2",
        "timeout_s: float = 0.5",
        "rate = done / elapsed_s",
        "amount_shown = f'{amount}'",
        "path = folder / name",
    ],
)
def test_integers_and_other_quantities_are_left_alone(text: str) -> None:
    assert rules(text) == []


def test_only_the_edge_commits() -> None:
    text = "async def f(session):\n    await session.commit()\n"
    assert rules(text) == ["commit"]
    assert rules(text, "libs/common/src/memepool_common/db.py") == []
    assert rules(text, TEST) == []


@pytest.mark.parametrize("call", ["message.nack()", "channel.basic_nack(1)", "x = message.nack"])
def test_messages_are_not_nacked(call: str) -> None:
    assert rules(call) == ["nack"]


@pytest.mark.parametrize(
    "text",
    [
        "import sqlalchemy",
        "from pydantic import BaseModel",
        "import time",
        "import os.path",
        "from memepool_common.db import Session",
        "from memepool_auth.store import users",
        "def f():\n    import random",
    ],
)
def test_the_domain_imports_no_more_than_it_may(text: str) -> None:
    assert rules(text, DOMAIN) == ["domain-import"]
    assert rules(text, SOURCE) == []


def test_the_domain_may_use_the_pure_standard_library_and_itself() -> None:
    text = "import hashlib\nfrom datetime import datetime\nfrom memepool_auth.domain import roles\n"
    assert rules(text, DOMAIN) == []


def test_the_domain_is_told_the_time() -> None:
    assert rules("opened = datetime.now(UTC)", DOMAIN) == ["domain-clock"]


def test_long_files_and_functions_are_named() -> None:
    body = "    pass\n"
    assert rules("def f():\n" + body * (FUNCTION_LINES_MAX - 1)) == []
    assert rules("def f():\n" + body * FUNCTION_LINES_MAX) == ["function-length"]
    assert rules("x = 1\n" * FILE_LINES_MAX) == []
    assert rules("x = 1\n" * (FILE_LINES_MAX + 1)) == ["file-length"]
    assert rules("| row |\n" * 1000, "docs/table.md") == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("address", "pip install --index" + "-url x"),
        ("address", "https://py" + "pi.org/simple"),
        ("address", "see /ho" + "me/anna/notes"),
        ("address", "cd /ro" + "ot/clone"),
        ("unfinished", "# TO" + "DO later"),
        ("unfinished", "FIX" + "ME"),
    ],
)
def test_addresses_and_unfinished_work_are_found_in_any_text(rule: str, text: str) -> None:
    assert rules(text, "docs/notes.md") == [rule]


def test_ordinary_paths_are_no_addresses() -> None:
    ordinary = "GET /content/wo" + "rk/1, ~/ho" + "me/x, /etc/hosts, a/ro" + "ot/b"
    assert rules(ordinary, "docs/notes.md") == []


def test_a_finding_says_where() -> None:
    [finding] = lint_text(SOURCE, "x = 1\namount: float\n")
    assert str(finding) == f"{SOURCE}:2: money-float: amount is in whole satoshis"


def test_the_walk_sees_sources_and_not_the_environment() -> None:
    seen = {path.relative_to(ROOT).as_posix() for path in source_files(ROOT)}
    assert {"requirements.lock", ".ci/run", "tools/lint_project.py"} <= seen
    assert not any(path.startswith((".venv/", ".git/")) for path in seen)
