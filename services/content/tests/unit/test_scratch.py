"""Scratch folders go with their block, and with the next start when their process was killed."""

import subprocess
import sys
from pathlib import Path

from memepool_content.adapters.scratch import scratch_folder, sweep

KILLED_MIDWAY = """
import os, signal, sys
from pathlib import Path
from memepool_content.adapters.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "upload").write_bytes(b"x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_its_folder_to_the_next_start(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED_MIDWAY, str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    foreign = tmp_path / "somebody-elses"
    foreign.mkdir()
    with scratch_folder(tmp_path) as used:
        sweep(tmp_path)
        assert set(tmp_path.iterdir()) == {used, foreign}
        assert left != used
    assert list(tmp_path.iterdir()) == [foreign]


def test_it_goes_with_its_block_whatever_happens(tmp_path: Path) -> None:
    try:
        with scratch_folder(tmp_path) as folder:
            (folder / "deeper").mkdir()
            raise LookupError
    except LookupError:
        assert list(tmp_path.iterdir()) == []
