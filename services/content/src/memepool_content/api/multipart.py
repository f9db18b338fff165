"""Reads one uploaded file and a few text fields from a multipart body, piece by piece.

The file goes to disk as it arrives and is hashed on the way; its cap is enforced with every piece.
No more than `FLUSH_BYTES` and one network read of it are ever in memory. Nothing is read before
the caller has been let in, which is why this is not left to the framework.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from memepool_common.web.problem import FieldError, Problem
from memepool_content.adapters.scratch import scratch_folder
from memepool_content.domain.errors import EmptyFileError, FileTooLargeError
from memepool_content.domain.image import SIGNATURE_BYTES
from memepool_content.settings import UploadSettings

FILE = "file"
FIELDS = ("title", "description", "tags", "transform")
PARTS_MAX = 32
FLUSH_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class ReceivedUpload:
    """A file on disk, gone with the block that received it, and the text fields beside it."""

    path: Path
    filename: str | None
    size_bytes: int
    sha256: str
    head: bytes
    fields: dict[str, list[str]]


@contextlib.asynccontextmanager
async def received_upload(
    request: Request, limits: UploadSettings
) -> AsyncIterator[ReceivedUpload]:
    """Receive the body of an upload.

    Raises:
        Problem: 400 `malformed_multipart`, 408 `upload_too_slow`, 415 `multipart_required`, 422
            `invalid_request` naming the field.
        FileTooLargeError, EmptyFileError
        DiskUnavailableError: there is no room for the file.
    """
    boundary = _boundary(request.headers.get("content-type", ""))
    with scratch_folder(limits.temporary_folder) as folder:
        form = _Form(folder / "upload", limits)
        try:
            async with asyncio.timeout(limits.timeout_s):
                await _read(request, form, boundary)
        except TimeoutError as error:
            detail = f"The upload took longer than {limits.timeout_s:g} s."
            raise Problem(408, "upload_too_slow", detail) from error
        except ClientDisconnect as error:
            raise _malformed("it ended early") from error
        yield form.result()


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        detail = "Send the image as the part `file` of a multipart/form-data body."
        raise Problem(415, "multipart_required", detail, headers={"Accept": "multipart/form-data"})
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise _malformed("its Content-Type names no boundary")
    return boundary


async def _read(request: Request, form: "_Form", boundary: bytes) -> None:
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": form.begin_part,
                "on_header_field": form.add_header_name,
                "on_header_value": form.add_header_value,
                "on_header_end": form.end_header,
                "on_headers_finished": form.begin_data,
                "on_part_data": form.add_data,
                "on_part_end": form.end_part,
                "on_end": form.end,
            },
        )
        async for piece in request.stream():
            parser.write(piece)
            if len(form.pending) >= FLUSH_BYTES:
                await asyncio.to_thread(form.flush)
    except FormParserError as error:
        raise _malformed("it is not well-formed multipart/form-data") from error
    await asyncio.to_thread(form.flush)


@dataclass
class _Part:
    name: str = ""
    filename: str | None = None
    header_name: bytearray = field(default_factory=bytearray)
    header_value: bytearray = field(default_factory=bytearray)
    disposition: bytes = b""
    value: bytearray = field(default_factory=bytearray)


class _Form:
    """What the parser has found so far. The parser calls the methods without `_`."""

    def __init__(self, path: Path, limits: UploadSettings) -> None:
        self.pending = bytearray()
        self._path = path
        self._limits = limits
        self._part = _Part()
        self._parts = 0
        self._ended = False
        self._has_file = False
        self._filename: str | None = None
        self._size_bytes = 0
        self._digest = hashlib.sha256()
        self._head = b""
        self._failure: OSError | None = None
        self._fields: dict[str, list[str]] = {}

    def begin_part(self) -> None:
        self._parts += 1
        if self._parts > PARTS_MAX:
            raise _malformed(f"it has more than {PARTS_MAX} parts")
        self._part = _Part()

    def add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._part.header_name += data[start:end]

    def add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.header_value += data[start:end]

    def end_header(self) -> None:
        if bytes(self._part.header_name).lower() == b"content-disposition":
            self._part.disposition = bytes(self._part.header_value)
        self._part.header_name.clear()
        self._part.header_value.clear()

    def begin_data(self) -> None:
        kind, options = parse_options_header(self._part.disposition)
        name = options.get(b"name", b"").decode(errors="replace")
        if kind != b"form-data" or not name:
            raise _malformed("a part has no name")
        self._part.name = name
        if name == FILE:
            if self._has_file:
                raise _invalid(FILE, "repeated", "Send exactly one file.")
            self._has_file = True
            filename = options.get(b"filename")
            self._filename = None if filename is None else filename.decode(errors="replace")

    def add_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.name == FILE:
            self._size_bytes += end - start
            # What is too much is dropped, not answered at once: a client that is still sending
            # would miss the answer. The limit on the whole body is near, and cuts it off.
            if self._size_bytes <= self._limits.file_bytes_max and self._failure is None:
                self.pending += data[start:end]
        elif self._part.name in FIELDS:
            self._part.value += data[start:end]
            if len(self._part.value) > self._limits.field_bytes_max:
                detail = f"At most {self._limits.field_bytes_max} bytes."
                raise _invalid(self._part.name, "too_long", detail)

    def end_part(self) -> None:
        name = self._part.name
        if name not in FIELDS:
            return
        try:
            text = self._part.value.decode()
        except UnicodeDecodeError as error:
            raise _invalid(name, "not_utf8", "Text must be UTF-8.") from error
        if "\x00" in text:
            raise _invalid(name, "nul", "Text may not hold the NUL character.")
        self._fields.setdefault(name, []).append(text)

    def end(self) -> None:
        self._ended = True

    def flush(self) -> None:
        """Write what waits to the disk; if that fails, `result` says so."""
        if not self._head:
            self._head = bytes(self.pending[:SIGNATURE_BYTES])
        self._digest.update(self.pending)
        try:
            with self._path.open("ab") as file:
                file.write(self.pending)
        except OSError as error:
            self._failure = error
            self._path.unlink(missing_ok=True)
        self.pending.clear()

    def result(self) -> ReceivedUpload:
        """The whole upload, once it is whole.

        Raises:
            Problem, FileTooLargeError, EmptyFileError
            OSError: it could not be written.
        """
        if self._failure is not None:
            raise self._failure
        if not self._ended:
            raise _malformed("it ends without its last boundary")
        if not self._has_file:
            raise _invalid(FILE, "missing", "The part `file` with the image is missing.")
        if self._size_bytes > self._limits.file_bytes_max:
            detail = f"The file has more than the {self._limits.file_bytes_max} bytes accepted."
            raise FileTooLargeError(detail)
        if self._size_bytes == 0:
            raise EmptyFileError("The file is empty.")
        for name in ("title", "description", "transform"):
            if len(self._fields.get(name, ())) > 1:
                raise _invalid(name, "repeated", "Send it once.")
        return ReceivedUpload(
            self._path,
            self._filename,
            self._size_bytes,
            self._digest.hexdigest(),
            self._head,
            self._fields,
        )


def _malformed(reason: str) -> Problem:
    detail = f"The body is not an upload that can be read: {reason}."
    return Problem(400, "malformed_multipart", detail)


def _invalid(name: str, code: str, detail: str) -> Problem:
    errors = [FieldError(f"/{name}", code, detail)]
    return Problem(422, "invalid_request", f"/{name}: {detail}", errors)
