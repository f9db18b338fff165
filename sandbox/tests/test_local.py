"""What `make down-local` ends, and what it leaves alone."""

import subprocess
import sys
from pathlib import Path

from memepool_sandbox.launcher.local import PID_FILE, down


def test_a_number_that_another_process_has_by_now_ends_nobody(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        (tmp_path / PID_FILE).write_text(str(stranger.pid))
        assert down(tmp_path) == 0
        stranger.communicate(b"\n")
    assert stranger.returncode == 0
