"""The body of a request, on its way from the client to a service."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.types import Receive

from memepool_common.web.problem import Problem
from memepool_gateway.proxy.headers import values

LINGER_S = 2.0
LINGER_BYTES_MAX = 32 * 1024 * 1024
"""Twice the largest upload: a photograph that is too large shall be told so."""


class ClientGone(Exception):  # noqa: N818 - a fact, not a fault
    """The client has closed its connection; nobody waits for an answer."""


class RequestBody:
    """Reads the body as it arrives, within its limits.

    Attributes:
        length: in bytes as the client declares it; None when it comes in chunks.
        exists: whether the request has a body at all.
        failure: why reading it ended early.
    """

    def __init__(
        self, scope: Mapping[str, Any], receive: Receive, *, bytes_max: int, timeout_s: float
    ) -> None:
        self._receive = receive
        self._bytes_max = bytes_max
        self._timeout_s = timeout_s
        self.length = _declared_length(scope)
        self.exists = self.length is None or self.length > 0
        self.failure: Problem | ClientGone | None = None
        self._whole: bytes | None = None
        self._finished = asyncio.Event()
        if not self.exists:
            self._finished.set()
        if self.length is not None and self.length > bytes_max:
            raise self._too_large()

    @property
    def finished(self) -> bool:
        """Whether all of it has been read."""
        return self._finished.is_set()

    async def take_in(self) -> None:
        """Read all of it, before a service hears of it.

        Raises:
            Problem, ClientGone: as `chunks`.
        """
        self._whole = b"".join([chunk async for chunk in self.chunks()])
        self.length = len(self._whole)

    @property
    def content(self) -> bytes | AsyncIterator[bytes] | None:
        """What a service is sent."""
        if self._whole is not None:
            return self._whole
        return self.chunks() if self.exists else None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, piece by piece.

        Raises:
            Problem: 413 `body_too_large`, 408 `body_timeout`; also kept in `failure`.
            ClientGone: likewise.
        """
        try:
            received_bytes = 0
            more = True
            while more:
                message = await self._next()
                chunk = message.get("body", b"")
                received_bytes += len(chunk)
                if received_bytes > self._bytes_max:
                    raise self._too_large()
                more = message.get("more_body", False)
                if not more:
                    self._finished.set()
                if chunk:
                    yield chunk
        except (Problem, ClientGone) as failure:
            self.failure = failure
            raise

    async def client_gone(self) -> None:
        """Return when the client has closed its connection, after the body."""
        await self._finished.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _next(self) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(self._timeout_s):
                message = await self._receive()
        except TimeoutError as error:
            detail = f"Nothing of the body arrived for {self._timeout_s:g} seconds."
            headers = {"Connection": "close"}
            raise Problem(408, "body_timeout", detail, headers=headers) from error
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message

    def _too_large(self) -> Problem:
        detail = f"The body is larger than the {self._bytes_max} bytes that this call accepts."
        return Problem(413, "body_too_large", detail, headers={"Connection": "close"})


async def linger(receive: Receive) -> None:
    """Take in, for a moment, what the client still sends.

    A connection that is closed over unread data is reset, and the client would lose the answer.
    """
    read_bytes = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while read_bytes < LINGER_BYTES_MAX:
                message = await receive()
                read_bytes += len(message.get("body", b""))
                if message["type"] == "http.disconnect":
                    return


def _declared_length(scope: Mapping[str, Any]) -> int | None:
    codings = values(scope, b"transfer-encoding")
    if codings:
        if [coding.strip().lower() for coding in codings] != ["chunked"]:
            detail = "The only transfer encoding that is accepted is 'chunked'."
            headers = {"Connection": "close"}
            raise Problem(400, "transfer_encoding_unknown", detail, headers=headers)
        return None
    declared = values(scope, b"content-length")
    if not declared:
        return 0
    if len(declared) > 1 or not (declared[0].isascii() and declared[0].isdigit()):
        detail = "Content-Length must be one whole number."
        raise Problem(400, "malformed_header", detail, headers={"Connection": "close"})
    return int(declared[0])
