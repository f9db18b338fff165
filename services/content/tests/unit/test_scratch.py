"""Scratch folders go with their block, and with the next start when their process was killed."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from memepool_common.events.errors import is_infrastructure
from memepool_content.adapters.scratch import DiskUnavailableError, scratch_folder, sweep

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


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_is_full_or_fails_is_infrastructure(tmp_path: Path, number: int) -> None:
    with pytest.raises(DiskUnavailableError) as told, scratch_folder(tmp_path):
        raise OSError(number, "as the system says")
    assert is_infrastructure(told.value)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), scratch_folder(tmp_path) as folder:
        (folder / "missing").read_bytes()
