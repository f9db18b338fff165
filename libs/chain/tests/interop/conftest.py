"""The official TypeScript SDK, run by Node.js, as the judge of our signatures."""

import fcntl
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SDK = Path(__file__).parents[1] / "sdk"
INSTALL_TIMEOUT_S = 90
RUN_TIMEOUT_S = 60

Judge = Callable[..., list[Any]]
"""`judge({"act": ..., ...}, ...)`: the answer to each request; AssertionError if one has none."""


def _install() -> None:
    """Exactly the locked version, checked by its hash; once for all test processes."""
    npm = shutil.which("npm")
    assert npm, "the whole test suite needs Node.js with npm (Debian: apt install nodejs npm)"
    wanted = hashlib.sha256((SDK / "package-lock.json").read_bytes()).hexdigest()
    stamp = SDK / "node_modules" / ".memepool-stamp"
    with (SDK / "package-lock.json").open() as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(
            command, cwd=SDK, timeout=INSTALL_TIMEOUT_S, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, f"npm could not install the SDK: {done.stderr}"
        stamp.write_text(wanted)


@pytest.fixture(scope="session")
def judge() -> Judge:
    """Asks the SDK; one run of Node.js answers all requests of a call."""
    node = shutil.which("node")
    assert node, "the whole test suite needs Node.js (Debian: apt install nodejs npm)"
    _install()

    def ask(*requests: dict[str, Any]) -> list[Any]:
        done = subprocess.run(
            [node, "judge.mjs"],
            cwd=SDK,
            input=json.dumps(requests),
            timeout=RUN_TIMEOUT_S,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        answers: list[dict[str, Any]] = json.loads(done.stdout)
        errors = [answer["error"] for answer in answers if "error" in answer]
        assert not errors, errors
        return [answer["result"] for answer in answers]

    return ask
