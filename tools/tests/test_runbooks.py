"""What the operator's documents name exists."""

import re

import pytest

from tools.install_member import ROOT

OPERATIONS = ROOT / "docs/operations.md"
DOCUMENTS = [OPERATIONS, *sorted((ROOT / "docs/runbooks").glob("*.md"))]
SOURCES = "\n".join(
    path.read_text()
    for folder in ("libs", "services")
    for path in sorted((ROOT / folder).glob("*/src/**/*.py"))
)


def test_every_runbook_is_linked_from_its_alert() -> None:
    linked = set(re.findall(r"\(runbooks/([\w-]+\.md)\)", OPERATIONS.read_text()))
    assert linked == {path.name for path in DOCUMENTS[1:]}


def test_the_runbook_of_tasks_knows_every_task() -> None:
    runbook = (ROOT / "docs/runbooks/task-failures.md").read_text()
    known = set(
        re.findall(r"`([\w.-]+)`", "\n".join(re.findall(r"^\| `.*?\|", runbook, re.MULTILINE)))
    )
    tasks = set(re.findall(r"every\([^\"]*name=\"([\w.-]+)\"", SOURCES))
    assert "payout" in tasks
    assert known == tasks


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_metrics_and_log_lines_and_files_exist(path: object) -> None:
    text = OPERATIONS.parent.joinpath(str(path)).read_text()
    metrics = set(re.findall(r"memepool_(?!auth|content|rounds|gateway)[a-z_]+", text))
    lines = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`: ", text)) | set(
        re.findall(r"log, `([a-z_]+)`", text)
    )
    missing = {name for name in metrics | lines if f'"{name}' not in SOURCES}
    assert missing == set()
    files = set(re.findall(r"`((?:tools|services|deploy|contracts|libs)/[\w./-]+\.\w+)`", text))
    made = {"deploy/secrets.env"}
    assert not [name for name in files - made if not (ROOT / name).is_file()]
