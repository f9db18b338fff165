"""HTTP towards WhatsOnChain: pacing, retries, limits, and its ways of saying no as typed errors.

WhatsOnChainError
├── NotFound         404, or 400 without a word
├── Rejected         400 with a reason
├── Unauthorized     401 or 403: the key is wrong, no retry will help
├── RateLimited      429 after all retries, or too many calls waiting here
├── Unavailable      no answer, too late, or a server error, after all retries
└── MalformedAnswer  an answer that is not what was asked for
"""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import httpx
import stamina

PACE_WAIT_S_MAX: Final = 30.0
RETRY_WAIT_S_MAX: Final = 5.0
_REASON_LENGTH_MAX = 300


class WhatsOnChainError(Exception):
    """Base of all that can go wrong with the source."""


class NotFound(WhatsOnChainError):  # noqa: N818 (reads as the source's answer)
    """The source does not know what was asked for."""


class Rejected(WhatsOnChainError):  # noqa: N818 (reads as the source's answer)
    """The source, or the node behind it, refused; `reason` is its own text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unauthorized(WhatsOnChainError):  # noqa: N818 (reads as the source's answer)
    """The source does not accept the key."""


class RateLimited(WhatsOnChainError):  # noqa: N818 (reads as the source's answer)
    """The source wants fewer calls."""


class Unavailable(WhatsOnChainError):  # noqa: N818 (reads as the source's answer)
    """No usable answer came in time: nothing is known about what was asked."""


class MalformedAnswer(WhatsOnChainError):  # noqa: N818 (reads as the source's answer)
    """The answer is not of the documented shape, too large, or contradicts the question."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often to try, and the first wait; it doubles up to 5 s, with jitter."""

    attempts: int = 4
    wait_initial_s: float = 0.5


class Transport:
    """One pool of connections that keeps to the source's rate."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        rate_per_s: float,
        timeout_s: float,
        retry: RetryPolicy,
    ) -> None:
        headers = {"Accept-Encoding": "identity"}  # what is not compressed cannot blow up here
        if api_key is not None:
            headers["Authorization"] = api_key
        self._client = httpx.AsyncClient(
            base_url=base_url, headers=headers, timeout=timeout_s, trust_env=False
        )
        self._timeout_s = timeout_s
        self._retry = retry
        self._interval_s = 1 / rate_per_s
        self._next_slot_s = 0.0

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        size_bytes_max: int,
        params: Mapping[str, str | int] | None = None,
        content: object = None,
    ) -> bytes:
        """Return the body of a 200 answer; `content` is sent as JSON. WhatsOnChainError."""
        request = self._client.build_request(
            method, path.lstrip("/"), params=params, json=content if method == "POST" else None
        )
        async for attempt in stamina.retry_context(
            on=(RateLimited, Unavailable),
            attempts=self._retry.attempts,
            timeout=None,
            wait_initial=self._retry.wait_initial_s,
            wait_max=RETRY_WAIT_S_MAX,
            wait_jitter=self._retry.wait_initial_s,
        ):
            with attempt:
                await self._take_slot()
                status, body = await self._send(request, size_bytes_max)
                _raise_for(status, body)
                return body
        raise AssertionError("the last attempt returns or raises")

    async def _take_slot(self) -> None:
        """Space calls evenly: the source counts in fixed seconds and forgives no burst."""
        now_s = time.monotonic()
        slot_s = max(now_s, self._next_slot_s)
        if slot_s - now_s > PACE_WAIT_S_MAX:
            raise RateLimited("too many calls are waiting for their turn")
        self._next_slot_s = slot_s + self._interval_s
        if slot_s > now_s:
            await asyncio.sleep(slot_s - now_s)

    async def _send(self, request: httpx.Request, size_bytes_max: int) -> tuple[int, bytes]:
        try:
            # The client's own timeout is per read: a source that drips would never end.
            async with asyncio.timeout(self._timeout_s):
                response = await self._client.send(request, stream=True)
                try:
                    body = await _read(response, size_bytes_max)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise Unavailable(f"no answer within {self._timeout_s} s") from None
        except httpx.RequestError as error:
            raise Unavailable(f"no answer: {type(error).__name__}") from error
        return response.status_code, body


async def _read(response: httpx.Response, size_bytes_max: int) -> bytes:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise MalformedAnswer("the answer is compressed although none was asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > size_bytes_max:
            raise MalformedAnswer(f"the answer is larger than {size_bytes_max} bytes")
    return bytes(body)


def _raise_for(status: int, body: bytes) -> None:
    if status == HTTPStatus.OK:
        return
    reason = _reason(body)
    if status == HTTPStatus.NOT_FOUND or (status == HTTPStatus.BAD_REQUEST and not reason):
        raise NotFound(reason or "not found")
    if status == HTTPStatus.BAD_REQUEST:
        raise Rejected(reason)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise Unauthorized(reason or f"status {status}")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise RateLimited(reason)  # its Retry-After is a date in 1970
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Unavailable(f"status {status}: {reason}")
    raise MalformedAnswer(f"status {status}: {reason}")


def _reason(body: bytes) -> str:
    """Read an error: a JSON string, `{"error": ...}`, or plain text."""
    try:
        value = parse_json(body)
    except MalformedAnswer:
        value = body.decode("utf-8", errors="replace")
    if isinstance(value, dict):
        value = value.get("error")
    return value.strip()[:_REASON_LENGTH_MAX] if isinstance(value, str) else ""


def parse_json(body: bytes) -> Any:
    """Parse JSON from a stranger; MalformedAnswer."""
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswer("the answer is not JSON") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
