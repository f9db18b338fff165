"""Faults on order: the next requests to a path fail in a chosen way."""

import asyncio
import enum
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

FAULTS_MAX = 1_000
_GARBAGE = b"<html><body>502 Bad Gateway</body></html"


class Mode(enum.StrEnum):
    """What happens to a request. The last four are answers of AITubo's jobs."""

    SERVER_ERROR = "500"
    TOO_MANY_REQUESTS = "429"
    TIMEOUT = "timeout"
    GARBAGE = "garbage"
    SLOW = "slow"
    JOB_REFUSED = "job-refused"
    JOB_FAILED = "job-failed"
    JOB_EMPTY = "job-empty"
    JOB_NSFW = "job-nsfw"


JOB_MODES = frozenset({Mode.JOB_REFUSED, Mode.JOB_FAILED, Mode.JOB_EMPTY, Mode.JOB_NSFW})


@dataclass(slots=True)
class _Order:
    path: str
    mode: Mode
    times: int


class Faults:
    """The faults still to come; shared by the simulators of one process."""

    def __init__(self, *, slow_s: float = 3.0, timeout_s: float = 30.0) -> None:
        self.slow_s = slow_s
        self.timeout_s = timeout_s
        self._orders: list[_Order] = []

    def order(self, path: str, mode: Mode, times: int) -> None:
        """Let the next `times` requests whose path begins with `path` fail; 0 takes it back.

        Raises ValueError when too many orders are open.
        """
        self._orders = [o for o in self._orders if (o.path, o.mode) != (path, mode)]
        if times == 0:
            return
        if len(self._orders) >= FAULTS_MAX:
            raise ValueError(f"at most {FAULTS_MAX} faults can be open")
        self._orders.append(_Order(path, mode, times))

    def take(self, path: str, *, job: bool = False) -> Mode | None:
        """The fault of this request, used up; `job` asks for those of AITubo's jobs."""
        for order in self._orders:
            if path.startswith(order.path) and (order.mode in JOB_MODES) == job:
                order.times -= 1
                if order.times == 0:
                    self._orders.remove(order)
                return order.mode
        return None


class FaultInjector:
    """Pure ASGI middleware that carries the faults out."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or fail to."""
        path = scope.get("path", "")
        control = path.startswith("/control")
        mode = self._faults.take(path) if scope["type"] == "http" and not control else None
        match mode:
            case Mode.SERVER_ERROR:
                await Response(b"", 500)(scope, receive, send)
            case Mode.TOO_MANY_REQUESTS:
                body = b'"Too Many Requests"\n'
                await Response(body, 429, media_type="application/json")(scope, receive, send)
            case Mode.GARBAGE:
                await Response(_GARBAGE, media_type="application/json")(scope, receive, send)
            case Mode.TIMEOUT:
                await _until_gone(receive, self._faults.timeout_s)
                await Response(b"", 504)(scope, receive, send)
            case Mode.SLOW:
                await asyncio.sleep(self._faults.slow_s)
                await self._app(scope, receive, send)
            case _:
                await self._app(scope, receive, send)


async def _until_gone(receive: Receive, timeout_s: float) -> None:
    """Wait until the client gives up, at most `timeout_s` seconds."""
    try:
        async with asyncio.timeout(timeout_s):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return
