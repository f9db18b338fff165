"""A patient client of the public API: what a considerate program does about busy answers."""

import asyncio
import random
import time
from typing import Any
from uuid import uuid4

import httpx

PATIENCE_S = 30.0
REQUEST_TIMEOUT_S = 15.0
_PAUSE_FIRST_S = 0.1
_PAUSE_MAX_S = 3.0
_BUSY = frozenset({429, 502, 503, 504})
# Refusals that pass by themselves, whatever their status.
_PASSING = frozenset({"not_known_yet", "request_in_progress", "no_round_yet"})


class ApiError(Exception):
    """A refusal. `code` is the problem's, or "" when the answer was no problem."""

    def __init__(self, response: httpx.Response) -> None:
        problem = _json(response)
        self.status = response.status_code
        self.code = str(problem.get("code", ""))
        self.detail = str(problem.get("detail", ""))
        call = f"{response.request.method} {response.request.url.path}"
        super().__init__(f"{call}: {self.status} {self.code}: {self.detail}")


class Api:
    """The public API behind one address, or the sandbox's control API behind another."""

    def __init__(self, client: httpx.AsyncClient, *, patience_s: float = PATIENCE_S) -> None:
        self._client = client
        self._patience_s = patience_s

    async def call(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        repeatable: bool = True,
        headers: dict[str, str] | None = None,
        **body: Any,
    ) -> dict[str, Any]:
        """The JSON object that the call answers with; {} for an empty answer.

        Waits out busy answers and lost connections for the client's patience. Each POST has an
        Idempotency-Key, so that repeating it is harmless; a call that is not `repeatable` all the
        same (it uses a token up) is tried once.

        Raises:
            ApiError: it was refused.
            httpx.TransportError: nobody answered.
        """
        sent = {**(headers or {})}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if method == "POST":
            sent["Idempotency-Key"] = str(uuid4())
        deadline_s = time.monotonic() + (self._patience_s if repeatable else 0)
        pause_s = _PAUSE_FIRST_S
        while True:
            try:
                response = await self._client.request(method, path, headers=sent, **body)
            except httpx.TransportError:
                if time.monotonic() + pause_s > deadline_s:
                    raise
            else:
                if response.is_success:
                    return _json(response)
                error = ApiError(response)
                passes = error.status in _BUSY or error.code in _PASSING
                pause_s = max(pause_s, _retry_after_s(response))
                if not passes or time.monotonic() + pause_s > deadline_s:
                    raise error
            await asyncio.sleep(pause_s * random.uniform(0.75, 1.25))
            pause_s = min(_PAUSE_MAX_S, pause_s * 2)


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _retry_after_s(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    return min(_PAUSE_MAX_S, int(value)) if value.isascii() and value.isdigit() else 0.0
