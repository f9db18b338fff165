"""Folders for the files of a moment, gone with their block; those of killed processes go later.

Who uses a folder holds a lock on it, which ends with the process however that ends.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import structlog

from memepool_content.domain.errors import DISK_ERRNOS

PREFIX = "memepool-content-"
log = structlog.get_logger(__name__)


class DiskUnavailableError(ConnectionError):
    """The disk for temporary files is full, or fails; nothing was changed. Try again."""

    code = "disk_unavailable"
    headers = {"Retry-After": "5"}  # noqa: RUF012 - nobody changes it


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A new folder in `parent`, the system's folder for temporary files unless given.

    Raises:
        DiskUnavailableError: there is no room, now or when the block writes, or it cannot be read.
    """
    with _disk_failures():
        folder, lock = _locked(parent)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def sweep(parent: Path | None = None) -> None:
    """Remove the folders in `parent` that processes left behind which are no more."""
    for folder in Path(parent or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), _opened(folder) as lock:  # in use, foreign, or just gone
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def _locked(parent: Path | None) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():  # else it was swept before it was locked
                return folder, lock
            os.close(lock)


@contextlib.contextmanager
def _disk_failures() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRNOS:
            raise
        log.warning("disk_unavailable", error=str(error))
        detail = "There is no room for temporary files right now; nothing was changed. Try again."
        raise DiskUnavailableError(detail) from error


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
