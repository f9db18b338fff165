"""The rate limit: a fixed window of one second per client."""

from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memepool_sandbox.whatsonchain.answers import answer

DAILY_LIMIT = 100_000
# The original counts seconds where its date format expects nanoseconds: always a moment of 1970.
_RETRY_AFTER = "Thu, 01 Jan 1970 00:00:01 GMT"


class RateLimit:
    """Answers 429 above `rate_per_s` requests in a second; tells every client where it stands."""

    def __init__(
        self, app: ASGIApp, rate_per_s: int, prefix: str, now_s: Callable[[], float]
    ) -> None:
        self._app = app
        self._rate_per_s = rate_per_s
        self._prefix = prefix
        self._now_s = now_s
        self._window = 0
        self._counts: dict[str, int] = {}
        self._daily_used = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not scope["path"].startswith(self._prefix):
            await self._app(scope, receive, send)
            return
        remaining = self._remaining((scope.get("client") or ("", 0))[0])
        if remaining < 0:
            refusal = answer("Too Many Requests", 429)
            refusal.headers["Retry-After"] = _RETRY_AFTER
            await refusal(scope, receive, send)
            return
        self._daily_used += 1

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-RateLimit-Limit"] = str(self._rate_per_s)
                headers["X-RateLimit-Remaining"] = str(remaining)
                headers["X-RateLimit-Daily-Limit"] = str(DAILY_LIMIT)
                headers["X-RateLimit-Daily-Remaining"] = str(max(0, DAILY_LIMIT - self._daily_used))
            await send(message)

        await self._app(scope, receive, send_with_limits)

    def _remaining(self, client: str) -> int:
        """What the client has left in this second after this request; negative if none."""
        window = int(self._now_s())
        if window != self._window:
            self._window = window
            self._counts.clear()
        count = self._counts.get(client, 0) + 1
        self._counts[client] = count
        return self._rate_per_s - count
