"""A gateway over real sockets: in front of a scripted upstream, behind a stub of auth."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from memepool_common.server import serving
from memepool_common.settings import AuthnSettings
from memepool_common.testing import TestIssuer
from memepool_common.testing.stub_auth import stub_auth
from memepool_common.web.app import Probes
from memepool_gateway.app import create_apps
from memepool_gateway.settings import (
    EdgeSettings,
    LimitSettings,
    RateSettings,
    RedisSettings,
    Settings,
    StreamSettings,
    UpstreamSettings,
)
from memepool_gateway.stream import MemoryStream, RedisStream, StreamStore

LIMITS = LimitSettings(
    body_bytes_max=1_000,
    upload_bytes_max=200_000,
    answer_bytes_max=2_000_000,
    answer_timeout_s=60.0,
    body_timeout_s=60.0,
    exchange_timeout_s=120.0,
)
"""Small in size; in time as long as a busy machine may need. Tests of a time-out set their own."""


@dataclass
class Gateway:
    """A running gateway."""

    port: int
    issuer: TestIssuer
    stream: StreamStore
    probes: Probes
    client: httpx.AsyncClient


@contextlib.asynccontextmanager
async def start(
    upstream: str = "http://127.0.0.1:9",
    *,
    limits: LimitSettings = LIMITS,
    edge: EdgeSettings | None = None,
    stream: StreamSettings | None = None,
    rates: RateSettings | None = None,
    redis_url: str | None = None,
    upstreams: dict[str, Any] | None = None,
    auth_poll_s: float = 0.05,
    stale_after_s: float = 60.0,
) -> AsyncIterator[Gateway]:
    """A gateway; all services answer at `upstream`. With `redis_url` its stream is there."""
    issuer = TestIssuer()
    async with stub_auth(issuer) as auth_url:
        urls = dict.fromkeys(("auth", "content", "rounds", "payments"), upstream)
        settings = Settings(
            upstreams=UpstreamSettings(**(urls | (upstreams or {}))),
            authn=AuthnSettings(
                internal_url=auth_url, poll_interval_s=auth_poll_s, stale_after_s=stale_after_s
            ),
            limits=limits,
            edge=edge or EdgeSettings(),
            stream=stream or StreamSettings(),
            rates=rates or RateSettings(),
            redis=RedisSettings(url=SecretStr(redis_url), timeout_s=30) if redis_url else None,
        )
        probes = Probes()
        own = MemoryStream(settings.stream)
        public, _ = create_apps(settings, probes, None if redis_url else own)
        async with (
            store_of(settings, own) as store,
            serving(public, "127.0.0.1", 0) as port,
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False
            ) as client,
        ):
            while await probes.failures():
                await asyncio.sleep(0.01)
            yield Gateway(port, issuer, store, probes, client)


@contextlib.asynccontextmanager
async def store_of(settings: Settings, own: MemoryStream) -> AsyncIterator[StreamStore]:
    """Where a test writes what the gateway tells."""
    if settings.redis is None:
        yield own
        return
    shared = RedisStream(settings.redis, settings.stream)
    try:
        yield shared
    finally:
        await shared.close()


StartGateway = Callable[..., AbstractAsyncContextManager[Gateway]]


@dataclass
class Seen:
    """A request as the upstream saw it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None


@dataclass
class Echo:
    """An upstream that keeps what it sees and answers what it is told."""

    seen: list[Seen] = field(default_factory=list)
    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: list[bytes] = field(default_factory=lambda: [b'{"ok":true}'])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        target = scope["raw_path"].decode()
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode()
        headers = [(key.decode(), value.decode()) for key, value in scope["headers"]]
        self.seen.append(Seen(scope["method"], target, headers, body))
        start = {"type": "http.response.start", "status": self.status, "headers": self.headers}
        await send(start)
        for chunk in self.body:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


@contextlib.asynccontextmanager
async def upstream_of(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an application on a free port; yields its URL."""
    async with serving(app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}"


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@contextlib.asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[str]:
    """An upstream that speaks raw bytes; `script` has each connection."""
    tasks: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the gateway hung up, as some tests want
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def exchange_bytes(port: int, request: bytes, *, timeout_s: float = 60.0) -> bytes:
    """Send raw bytes to the gateway and read until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(timeout_s):
            return await reader.read()
    finally:
        writer.close()
