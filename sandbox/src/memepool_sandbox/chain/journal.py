"""The chain's memory: a file that is only ever appended to.

A record is `length, crc32, kind` (little-endian u32, u32, u8) and then the payload; the checksum
covers kind and payload. Each append is flushed to the disk before it returns. A process killed
while it wrote leaves a torn last record, which the next opening cuts off; damage anywhere else is
not repaired but refused, because the chain that follows it would be another one.
"""

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

_HEAD = struct.Struct("<IIB")
RECORD_BYTES_MAX = 64 * 1024 * 1024


class JournalError(Exception):
    """The file cannot be used: another process holds it, or it is damaged before its end."""


class Journal:
    """An append-only file of `(kind, payload)` records, held by one process at a time."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`. Raises JournalError while another process has it open."""
        self._path = path
        self._end = 0
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise JournalError(f"{path} is in use by another process") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def records(self) -> Iterator[tuple[int, bytes]]:
        """Every whole record from the start; cuts off a torn end. Read this before appending.

        Raises JournalError when a record before the last one is damaged.
        """
        data = self._path.read_bytes()
        at = 0
        while at < len(data):
            if at + _HEAD.size > len(data):
                break
            length, checksum, kind = _HEAD.unpack_from(data, at)
            if length > RECORD_BYTES_MAX:
                raise JournalError(f"{self._path} is damaged at byte {at}")
            end = at + _HEAD.size + length
            if end > len(data):
                break
            payload = data[end - length : end]
            if zlib.crc32(payload, zlib.crc32(bytes([kind]))) != checksum:
                if end < len(data):
                    raise JournalError(f"{self._path} is damaged at byte {at}")
                break
            yield kind, payload
            at = end
        os.ftruncate(self._fd, at)
        self._end = at

    def append(self, *records: tuple[int, bytes]) -> None:
        """Write the records and wait until the disk has them."""
        encoded = bytearray()
        for kind, payload in records:
            if len(payload) > RECORD_BYTES_MAX:
                raise JournalError(f"a record of {len(payload)} bytes is over {RECORD_BYTES_MAX}")
            checksum = zlib.crc32(payload, zlib.crc32(bytes([kind])))
            encoded += _HEAD.pack(len(payload), checksum, kind) + payload
        try:
            written = 0
            while written < len(encoded):
                written += os.pwrite(self._fd, encoded[written:], self._end + written)
            os.fdatasync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self._end)  # what follows must not stand behind half a record
            raise
        self._end += written

    def close(self) -> None:
        """Give the file back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
