"""The tests that `docs/hard-cases.md` names are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_NAMED = re.compile(r"`(test_\w+)`")
_DEFINED = re.compile(r"^ *(?:async )?def (test_\w+)\(", re.MULTILINE)


def test_every_test_that_is_named_exists() -> None:
    folders = ("tests", "tools", "services", "libs", "sandbox")
    files = [file for folder in folders for file in (ROOT / folder).rglob("test_*.py")]
    defined = {name for file in files for name in _DEFINED.findall(file.read_text())}
    named = _NAMED.findall((ROOT / "docs/hard-cases.md").read_text())
    assert len(named) > 90
    assert set(named) <= defined
