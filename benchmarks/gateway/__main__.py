"""Measures what a request costs the gateway, in CPU time of its process.

The reference, in the same run, is a bare ASGI application that answers the same 1 kB under the same
server; it is also what the gateway has behind it. Variants take turns, and the median counts:
requests per second say more about the machine than about the code.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import signal
import statistics
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import uvloop
from pydantic import SecretStr

from memepool_common import telemetry
from memepool_common.server import serving
from memepool_common.settings import AuthnSettings, TelemetrySettings
from memepool_common.testing import TestIssuer
from memepool_common.testing.stub_auth import stub_auth
from memepool_common.testing.waiting import until
from memepool_common.web.app import Probes
from memepool_gateway.app import create_apps
from memepool_gateway.settings import (
    Rate,
    RateSettings,
    RedisSettings,
    Settings,
    UpstreamSettings,
)
from memepool_sandbox.redis_server import PrivateRedis

BODY = b'{"x":"' + b"x" * 1_000 + b'"}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]
MANY = Rate(per_address=1_000_000_000, per_user=1_000_000_000)
WARM_UP = 500
START_TIMEOUT_S = 30


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """The reference, and the service behind the gateway."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


@contextlib.asynccontextmanager
async def gateway(upstream: str, redis_url: str | None) -> AsyncIterator[tuple[int, str]]:
    """A gateway with its default settings, but for the numbers of its limits."""
    issuer = TestIssuer()
    token = issuer.headers(issuer.principal())["Authorization"]
    async with stub_auth(issuer) as auth_url:
        probes = Probes()
        settings = Settings(
            upstreams=UpstreamSettings(
                **dict.fromkeys(("auth", "content", "rounds", "payments"), upstream)
            ),
            authn=AuthnSettings(internal_url=auth_url),
            rates=RateSettings(read=MANY, write=MANY),
            redis=RedisSettings(url=SecretStr(redis_url)) if redis_url else None,
        )
        public, _ = create_apps(settings, probes)
        async with serving(public, "127.0.0.1", 0) as port:
            await until(lambda: _ready(probes))
            yield port, token


async def _ready(probes: Probes) -> bool:
    return not await probes.failures()


def serve(pipe: Connection, upstream: str | None, redis_url: str | None) -> None:
    """A process: tells port and token, and serves until it is ended."""

    async def run() -> None:
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        async with contextlib.AsyncExitStack() as stack:
            if upstream is None:
                port = await stack.enter_async_context(serving(echo, "127.0.0.1", 0))
                pipe.send((port, ""))
            else:
                pipe.send(await stack.enter_async_context(gateway(upstream, redis_url)))
            await stopping.wait()

    telemetry.setup("benchmark", TelemetrySettings(log_level="WARNING"))
    uvloop.run(run())


@dataclass
class Variant:
    """A server under test, and what has been measured of it."""

    name: str
    process: psutil.Process
    port: int
    token: str = ""
    path: str = "/rounds/1/votes"
    sent: bytes = b""
    cpu_us: list[float] = field(default_factory=list)

    async def measure(self, requests: int, connections: int) -> None:
        """Add one measurement."""
        await self.load(WARM_UP, connections)
        before_s = sum(self.process.cpu_times()[:2])
        await self.load(requests, connections)
        self.cpu_us.append((sum(self.process.cpu_times()[:2]) - before_s) / requests * 1e6)

    async def load(self, requests: int, connections: int) -> None:
        """So many requests over so many kept connections."""
        authorization = f"Authorization: {self.token}\r\n" if self.token else ""
        method = "POST" if self.sent else "GET"
        length = f"Content-Length: {len(self.sent)}\r\n"
        head = f"{method} {self.path} HTTP/1.1\r\nHost: x\r\n{authorization}{length}\r\n"
        request = head.encode() + self.sent

        async def one(count: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            for _ in range(count):
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200"), head
                await reader.readexactly(len(BODY))
            writer.close()

        await asyncio.gather(*(one(requests // connections) for _ in range(connections)))


@contextlib.contextmanager
def started(upstream: str | None = None, redis_url: str | None = None) -> Iterator[Any]:
    """A server in a process of its own: the process, its port, a token."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(there, upstream, redis_url))
    process.start()
    try:
        if not here.poll(START_TIMEOUT_S):
            raise TimeoutError("the server did not start")
        port, token = here.recv()
        yield psutil.Process(process.pid), port, token
    finally:
        process.terminate()
        process.join()


async def compare(variants: list[Variant], arguments: argparse.Namespace) -> None:
    """Measure in turns and print."""
    for _ in range(arguments.turns):
        for variant in variants:
            await variant.measure(arguments.requests, arguments.connections)
    reference_us = statistics.median(variants[0].cpu_us)
    print(f"{'':28}CPU us/request   of the reference")
    for variant in variants:
        cpu_us = statistics.median(variant.cpu_us)
        print(f"{variant.name:28}{cpu_us:14.0f}   {cpu_us / reference_us:16.1f}")


def main() -> None:
    """Start everything, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4_000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    multiprocessing.set_start_method("fork")
    with contextlib.ExitStack() as stack:
        redis = PrivateRedis(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        redis.start()
        stack.callback(redis.stop)
        process, port, _ = stack.enter_context(started())
        upstream = f"http://127.0.0.1:{port}"
        variants = [Variant("bare ASGI (reference)", process, port)]
        for name, url in (("gateway", None), ("gateway with Redis", redis.url)):
            process, port, token = stack.enter_context(started(upstream, url))
            variants += [
                Variant(name, process, port),
                Variant(f"{name}, token", process, port, token),
                Variant(f"{name}, cached", process, port, path="/rounds/1"),
                Variant(f"{name}, write", process, port, token, sent=BODY[:100]),
            ]
        uvloop.run(compare(variants, arguments))


if __name__ == "__main__":
    main()
