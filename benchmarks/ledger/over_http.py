"""POST /payments/transfer against one real API process, by callers that keep their connections."""

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator

import orjson
import psutil

from benchmarks.ledger.loads import USERS, Latency, People
from benchmarks.ledger.setting import Cost, Meter, Setting, deadline_in
from memepool_chain import headerstore
from memepool_chain.bip32 import ExtendedPrivateKey
from memepool_chain.headerstore import Checkpoint
from memepool_chain.network import REGTEST
from memepool_common.db import Database
from memepool_common.testing import TestIssuer, stub_auth
from memepool_sandbox.ports import free_ports

SENDERS = 200
START_TIMEOUT_S = 30.0


async def measure(
    setting: Setting, database: Database, people: People, *, callers: int, seconds: float
) -> tuple[Latency, Cost]:
    """Transfers of so many concurrent callers; the cost is that of the API process."""
    issuer = TestIssuer()
    senders = random.sample(range(USERS), SENDERS)
    tokens = [
        issuer.token(issuer.principal(user_id=people.users[each], wallet=f"1Bench{each}"))
        for each in senders
    ]
    took: list[float] = []
    async with database.transaction() as session:
        await headerstore.initialize(session, Checkpoint.genesis(REGTEST))
    async with stub_auth(issuer) as auth_url, _api(setting, auth_url, tokens[0]) as (port, process):
        known = People([people.users[each] for each in senders], [])
        for token in tokens:  # everybody is met once
            await _knows(port, token)
        meter = Meter(setting, psutil.Process(process.pid))
        await _run(port, tokens, known, callers, deadline_in(seconds), took)
        return Latency.of(took), meter.per(len(took))


async def _run(
    port: int, tokens: list[str], people: People, callers: int, until: float, took: list[float]
) -> None:
    async def call() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (began := time.monotonic()) < until:
            recipient = str(random.choice(people.users))
            body = orjson.dumps({"recipient": recipient, "amount": 1})
            head = (
                "POST /payments/transfer HTTP/1.1\r\nHost: bench\r\n"
                f"Authorization: Bearer {random.choice(tokens)}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            said = await reader.readexactly(length)
            if not answer.startswith(b"HTTP/1.1 201") and b"self_transfer" not in said:
                raise RuntimeError(said.decode())
            took.append(time.monotonic() - began)
        writer.close()

    await asyncio.gather(*(call() for _ in range(callers)))


@contextlib.asynccontextmanager
async def _api(
    setting: Setting, auth_url: str, token: str
) -> AsyncIterator[tuple[int, asyncio.subprocess.Process]]:
    port, internal_port = free_ports(2)
    xpub = str(ExtendedPrivateKey.from_seed(bytes(range(32)), REGTEST).neuter())
    prefix = "MEMEPOOL_PAYMENTS_"
    environment = os.environ | {
        f"{prefix}DATABASE__URL": setting.database.url.get_secret_value(),
        f"{prefix}DATABASE__APP_ROLE": setting.database.app_role,
        f"{prefix}AUTHN__INTERNAL_URL": auth_url,
        f"{prefix}CHAIN__NETWORK": "regtest",
        f"{prefix}CHAIN__DEPOSIT_XPUB": xpub,
        f"{prefix}HTTP__PORT": str(port),
        f"{prefix}HTTP__INTERNAL_PORT": str(internal_port),
        f"{prefix}TELEMETRY__LOG_LEVEL": "WARNING",
        f"{prefix}MONEY__TRANSFERS_PER_HOUR_MAX": str(2**31 - 1),
    }
    command = (sys.executable, "-m", "memepool_payments", "api")
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not await _knows(port, token):  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.1)
        yield port, process
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def _knows(port: int, token: str) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    head = f"Host: bench\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    writer.write(f"GET /payments/balance HTTP/1.1\r\n{head}".encode())
    answer = await reader.read()
    writer.close()
    return answer.startswith(b"HTTP/1.1 200")
