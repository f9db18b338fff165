"""HTTP servers inside a process that owns its signals, and the commands of every service."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

KEEP_ALIVE_S = 75
BACKLOG = 1024
START_TIMEOUT_S = 30.0
HEAD_BYTES_MAX = 64 * 1024
HEAD_TIMEOUT_S = 30.0


class _BoundedHead(HttpToolsProtocol):
    """Bounds the size of a request's head, and the time it may take: uvicorn itself does not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._in_head = True
        self._begun_here = False
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._begun_here = False
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._expect_head()  # the rest of a head that came in parts
        if not self._begun_here:  # else how much of the data belongs to it is not known
            self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX:
            self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        self._in_head = self._begun_here = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self._forget_timer()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _forget_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, host: str, port: int, *, drain_timeout_s: float = 20.0
) -> AsyncIterator[int]:
    """Serve `app` (with its lifespan) inside the block; yields the port, free if `port` is 0.

    Leaving the block stops accepting, lets requests in flight finish, then ends the lifespan.

    Raises:
        OSError: the port is taken.
        RuntimeError: the application did not start.
    """
    config = uvicorn.Config(
        app,
        http=_BoundedHead,
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(drain_timeout_s),
        lifespan="on",
        server_header=False,
        proxy_headers=False,  # who the client is, is decided by a configured hop count
        date_header=True,
    )
    server = _Server(config)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
        task = asyncio.create_task(server.serve(sockets=[listener]), name=f"http-{port}")
        try:
            await _until_started(server, task)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
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
