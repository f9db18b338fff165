"""Whole sign-ins against auth as it is deployed: its own process, over HTTP, on PostgreSQL."""

import asyncio
import base64
import contextlib
import os
import secrets
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import httpx
import psutil

from memepool_chain.address import address_of
from memepool_chain.keys import PrivateKey
from memepool_chain.message import sign_bsm
from memepool_chain.network import REGTEST
from memepool_common.migrations import migrate
from memepool_sandbox.ports import free_ports
from memepool_sandbox.postgres import PostgresServer, provision

AT_ONCE = 8
WARM_UP = 40
START_TIMEOUT_S = 30
HOST = "127.0.0.1"
Call = Callable[[int], Awaitable[None]]


@dataclass(frozen=True)
class Phase:
    """One kind of call: CPU of both processes for each, and the median time on the clock."""

    name: str
    auth_ms: float
    postgres_ms: float
    clock_ms: float


@dataclass
class Clients:
    """Wallets that sign in, all at the same step."""

    http: httpx.AsyncClient
    count: int
    keys: list[PrivateKey] = field(init=False)
    proofs: list[dict[str, str]] = field(init=False)
    grants: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.keys = [PrivateKey.generate() for _ in range(self.count)]
        self.proofs, self.grants = [{}] * self.count, [""] * self.count

    async def refused(self, _i: int) -> None:
        """A call that gets through HTTP and framework and no further."""
        answer = await self.http.post("/auth/session", json={})
        assert answer.status_code == 422, answer.text

    async def challenge(self, i: int) -> None:
        """Ask for a text and sign it, here, not in auth."""
        asked = {"walletAddress": address_of(self.keys[i].public_key, REGTEST)}
        answer = await self.http.post("/auth/challenge", json=asked)
        assert answer.status_code == 201, answer.text
        given = answer.json()
        signature = sign_bsm(given["message"], self.keys[i])
        self.proofs[i] = {**asked, "nonce": given["nonce"], "signature": signature}

    async def verify(self, i: int) -> None:
        """Hand in the signature."""
        answer = await self.http.post("/auth/verify", json=self.proofs[i])
        assert answer.status_code == 200, answer.text
        self.grants[i] = answer.json()["grant"]

    async def session(self, i: int) -> None:
        """Turn the grant into tokens."""
        answer = await self.http.post("/auth/session", json={"grant": self.grants[i]})
        assert answer.status_code == 201, answer.text


async def measure_sign_ins(server: PostgresServer, count: int) -> list[Phase]:
    """The call that is refused first, then the three calls of a sign-in, by new users."""
    async with _auth(server) as (process, base_url):
        limits = httpx.Limits(max_connections=AT_ONCE)
        async with httpx.AsyncClient(base_url=base_url, timeout=30, limits=limits) as http:
            phases: list[Phase] = []
            for size in (WARM_UP, count):
                clients = Clients(http, size)
                calls: list[tuple[str, Call]] = [
                    ("a call that is refused (reference)", clients.refused),
                    ("challenge", clients.challenge),
                    ("verify", clients.verify),
                    ("session", clients.session),
                ]
                phases = [await _measure(name, call, size, process) for name, call in calls]
    return phases


async def _measure(name: str, call: Call, count: int, process: psutil.Process) -> Phase:
    taken_s: list[float] = []
    numbers = iter(range(count))

    async def client() -> None:
        for i in numbers:
            started_s = time.perf_counter()
            await call(i)
            taken_s.append(time.perf_counter() - started_s)

    backends = _backends()
    before_s, backends_before_s = _cpu_s([process]), _cpu_s(backends)
    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    auth_s, postgres_s = _cpu_s([process]) - before_s, _cpu_s(backends) - backends_before_s
    clock_ms = statistics.median(taken_s) * 1e3
    return Phase(name, auth_s / count * 1e3, postgres_s / count * 1e3, clock_ms)


def _backends() -> list[psutil.Process]:
    """The processes of the PostgreSQL server that this one has started."""
    children = psutil.Process().children(recursive=True)
    return [each for each in children if each.name().startswith("postgres")]


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    total_s = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total_s += times.user + times.system
    return total_s


@contextlib.asynccontextmanager
async def _auth(server: PostgresServer) -> AsyncIterator[tuple[psutil.Process, str]]:
    """Auth's API process on a new database; yields it and its address."""
    name = f"bench_auth_{secrets.token_hex(4)}"
    provision(server, "auth", database=name)
    migrate("memepool_auth", server.url(name, "auth_owner"), "auth_app")
    port, internal_port = free_ports(2)
    given = {
        "HTTP__PORT": str(port),
        "HTTP__INTERNAL_PORT": str(internal_port),
        "DATABASE__URL": server.url(name, "auth_app"),
        "DATABASE__APP_ROLE": "auth_app",
        "DATABASE__POOL_SIZE": str(AT_ONCE),
        "AUTHN__INTERNAL_URL": f"http://{HOST}:{internal_port}",
        "SIGN_IN__DOMAIN": "memepool.example",
        "SIGN_IN__NETWORK": "regtest",
        "SIGN_IN__CHALLENGES_PER_ADDRESS_MAX": "1000000",
        "KEYS__ENCRYPTION_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "TELEMETRY__LOG_LEVEL": "WARNING",
    }
    environment = os.environ | {f"MEMEPOOL_AUTH_{key}": value for key, value in given.items()}
    command = [sys.executable, "-m", "memepool_auth", "api"]
    child = subprocess.Popen(command, env=environment)  # noqa: ASYNC220, S603 - our own program
    try:
        await _until_ready(f"http://{HOST}:{internal_port}/readyz")
        yield psutil.Process(child.pid), f"http://{HOST}:{port}"
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(timeout=30)
        with server.administer() as admin:
            admin.execute(f'drop database "{name}" with (force)'.encode())


async def _until_ready(url: str) -> None:
    async with httpx.AsyncClient() as http, asyncio.timeout(START_TIMEOUT_S):
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await http.get(url)).status_code == 200:
                    return
            await asyncio.sleep(0.1)
