"""HTTP servers inside a process that owns its signals."""

import asyncio
import contextlib
import functools
import http
import math
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple, Protocol, cast

import httptools
import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from memepool_common.pausing import pause
from memepool_common.web.problem import Problem, problem_response

KEEP_ALIVE_S = 75
BACKLOG = 1024
START_TIMEOUT_S = 30.0
HEAD_BYTES_MAX = 64 * 1024
HEAD_TIMEOUT_S = 30.0
STALL_TIMEOUT_S = 60.0
"""Of a client that takes nothing of what we send; also when we have closed its connection."""
TICK_S = 1.0
DRAIN_STEP_S = 0.005


class CannotListenError(OSError):
    """Host and port are not to be had."""


class Shortcut(NamedTuple):
    """A whole answer that lies ready in memory: status, the lines of its head, its body."""

    status: int
    head: bytes
    body: bytes


FindShortcut = Callable[[Scope], Shortcut | None]
"""Looks at a request before the application does. It must not block, and says None in any doubt."""


class Lane(Protocol):
    """A way past the application for an operation that is called all the time."""

    def claims(self, scope: Scope) -> bool:
        """Whether `serve` is to be asked once the body is there, which then must be small."""
        ...

    def serve(
        self,
        scope: Scope,
        body: bytes,
        reply: Callable[[Shortcut], None],
        leave: Callable[[], None],
    ) -> None:
        """Serve the request and `reply`, or `leave` it to the application; now or later."""
        ...


class _StrictHttp(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn reads it, but for what that leaves open: the head of a request is bounded
    in size and time, it names one host, trailers are no headers and as bounded, an offer of
    another protocol is passed over, and refusals are problems.

    An application's `shortcut` and `lane`, if it has them, are asked first: the way through tasks
    and middleware costs more than sending an image out of memory or taking a vote.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unread_bytes = 0  # of a head, or since the last of a body
        self._in_head = True
        self._got_body = self._ended_here = False
        self._given = self._again = b""
        self._head_timer: asyncio.TimerHandle | None = None
        self._find_shortcut: FindShortcut | None = getattr(self.config.app, "shortcut", None)
        self._lane: Lane | None = getattr(self.config.app, "lane", None)
        self._claimed: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._take(data)
        while self._again:
            again, self._again = self._again, b""
            self._take(again)

    def _take(self, data: bytes) -> None:
        self._got_body, self._ended_here, self._given = False, False, data
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head:
            self._expect_head()  # the rest of a head that came in parts
        # llhttp keeps a field until it ends. How much of data in which a body or a request ended
        # belongs to what follows is not known.
        self._unread_bytes = (
            0 if self._got_body or self._ended_here else self._unread_bytes + len(data)
        )
        if self._unread_bytes > HEAD_BYTES_MAX:
            detail = f"A request has at most {HEAD_BYTES_MAX} bytes before and after its body."
            self._refuse(Problem(431, "headers_too_large", detail))

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # What follows a chunked body passed the proxies before us as nothing that they look at.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._unread_bytes = 0
        self._forget_timer()
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise ValueError("a request names one host")  # RFC 9112, section 3.2
        if self.parser.get_method() == b"CONNECT":
            raise ValueError("this is no tunnel")
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._got_body = True
        super().on_body(body)

    def _unsupported_upgrade_warning(self) -> None:
        """The request offers another protocol: it is read again as one that does not.

        llhttp has ended it after its head, for the rest would be in that protocol: else its body
        would be lost, or be the next request.
        """
        self._ended_here = True
        offer = sys.exception()
        assert isinstance(offer, httptools.HttpParserUpgrade)  # noqa: S101 - where uvicorn asks
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self._again = b"\r\n".join([*lines, b"", self._given[offer.args[0] :]])

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._ended_here = True
        super().on_message_complete()
        claimed, self._claimed = self._claimed, None
        if claimed is not None and self._lane is not None:
            self._serve(claimed, self._lane)

    def send_400_response(self, msg: str) -> None:
        """What cannot be read as HTTP gets a problem like everything else."""
        self._refuse(Problem(400, "malformed_request", msg))

    def _refuse(self, problem: Problem) -> None:
        answer = problem_response(problem, "")
        headers = [*self.server_state.default_headers, *answer.raw_headers]
        lines = [f"HTTP/1.1 {problem.status} {http.HTTPStatus(problem.status).phrase}".encode()]
        lines += [b"%b: %b" % header for header in (*headers, (b"connection", b"close"))]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Answer at once where that is possible, to a client that has read all we sent so far."""
        if not self.transport.get_write_buffer_size():
            scope = cast("Scope", cycle.scope)
            find = self._find_shortcut if cycle.keep_alive else None
            shortcut = None if find is None else find(scope)
            if shortcut is not None:
                self._reply(cycle, shortcut)
                return
            waits = cycle.waiting_for_100_continue
            if self._lane is not None and not waits and self._lane.claims(scope):
                if cycle.more_body:
                    self._claimed = cycle
                else:
                    self._serve(cycle, self._lane)
                return
        super()._start_asgi_task(cycle, app)

    def _serve(self, cycle: RequestResponseCycle, lane: Lane) -> None:
        reply = functools.partial(self._reply, cycle)
        leave = functools.partial(super()._start_asgi_task, cycle, self.app)
        lane.serve(cast("Scope", cycle.scope), bytes(cycle.body), reply, leave)

    def _reply(self, cycle: RequestResponseCycle, answer: Shortcut) -> None:
        cycle.response_started = cycle.response_complete = True
        if cycle.disconnected:
            return
        lines = [STATUS_LINE[answer.status]]
        lines += [b"%b: %b\r\n" % header for header in cycle.default_headers]
        lines += [answer.head, b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"]
        self.transport.writelines([*lines, answer.body])
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _forget_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to the process, and ends without a pause when it is told
    to: hundreds of tests start and end servers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._told = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        """Accept nothing more, finish what is in flight, then end the lifespan."""
        self.should_exit = True
        self._told.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # it renews the header Date
            await pause(self._told, TICK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                # Sets that uvicorn keeps: nothing tells when they are empty.
                while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 - see above
                    await asyncio.sleep(DRAIN_STEP_S)
        except TimeoutError:
            for task in self.server_state.tasks:
                task.cancel()
        await self.lifespan.shutdown()


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, host: str, port: int, *, drain_timeout_s: float = 20.0
) -> AsyncIterator[int]:
    """Serve `app` (with its lifespan) inside the block; yields the port, free if `port` is 0.

    Leaving the block stops accepting, lets requests in flight finish, then ends the lifespan.

    Raises:
        CannotListenError: the port is taken, or the host is none of ours.
        RuntimeError: the application did not start.
    """
    config = uvicorn.Config(
        app,
        http=_StrictHttp,
        ws="none",
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(drain_timeout_s),
        lifespan="on",
        server_header=False,
        proxy_headers=False,  # who the client is, is decided by a configured hop count
        date_header=True,
    )
    server = _Server(config)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # of Linux; its connections inherit it
            stall_ms = int(STALL_TIMEOUT_S * 1_000)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, stall_ms)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise CannotListenError(f"cannot listen on {host} port {port}: {error}") from error
        listener.listen(BACKLOG)
        listener.setblocking(False)
        task = asyncio.create_task(server.serve(sockets=[listener]), name=f"http-{port}")
        try:
            await _until_started(server, task)
            yield listener.getsockname()[1]
        finally:
            server.stop()
            await task


async def _until_started(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while not server.started:
            if task.done():
                await task
                raise RuntimeError("the application did not start; see its log")
            await asyncio.sleep(0.01)


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set; call inside the running loop."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping
