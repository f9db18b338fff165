"""The system as separate processes, as it runs in production: each service's API and worker one.

RabbitMQ is between them and Redis beside the gateway; who started those two is not our business.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from pydantic import SecretStr

from memepool_common.settings import BusSettings, DatabaseSettings
from memepool_gateway.settings import RedisSettings
from memepool_sandbox.launcher.environment import environment_of
from memepool_sandbox.launcher.options import Options
from memepool_sandbox.launcher.secrets import Secrets, load_or_make
from memepool_sandbox.launcher.services import (
    DATABASES,
    Part,
    Surroundings,
    build_parts,
    choose_ports,
)
from memepool_sandbox.launcher.system import STORE
from memepool_sandbox.ports import HOST, free_ports

READY_TIMEOUT_S = 90.0
READY_POLL_S = 0.1
STOP_TIMEOUT_S = 30.0
LOGS = "logs"
PID_SUFFIX = ".pid"


class ProcessError(Exception):
    """A process does not come up; the message has the end of its log."""


@dataclass
class Process:
    """One process, that can be started, killed and started again; workers serve nobody."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    url: str
    ready_url: str
    log: Path
    running: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it; `wait_ready` tells when it can be used."""
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(  # noqa: S603 - our own modules
                [sys.executable, "-m", *self.arguments],
                env=os.environ | dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for who started us; we stop in order
            )
        self.log.with_suffix(PID_SUFFIX).write_text(str(self.running.pid))

    def wait_ready(self) -> None:
        """Wait until it says that it is ready.

        Raises:
            ProcessError: it ended, or is not ready in time.
        """
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline and self.running and self.running.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(self.ready_url, timeout=5).is_success:
                    return
            time.sleep(READY_POLL_S)
        tail = self.log.read_text(errors="replace")[-2000:]
        raise ProcessError(f"{self.name} is not ready:\n{tail}")

    def kill(self) -> None:
        """SIGKILL, as the kernel would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when it takes too long."""
        self._end(signal.SIGTERM)

    def ask_to_stop(self) -> None:
        """SIGTERM, without waiting for what it does."""
        if self.running is not None:
            self.running.terminate()

    def _end(self, number: signal.Signals) -> None:
        if self.running is None:
            return
        self.running.send_signal(number)
        try:
            self.running.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.running.kill()
            self.running.wait()
        self.running = None
        self.log.with_suffix(PID_SUFFIX).unlink(missing_ok=True)


@dataclass(frozen=True)
class ProcessSystem:
    """A running system of processes: where to reach it, and its processes by name."""

    gateway_url: str
    chain_url: str
    services: Mapping[str, str]
    secrets: Secrets
    databases: Mapping[str, DatabaseSettings]
    processes: Mapping[str, Process]


@dataclass(frozen=True)
class Servers:
    """The servers between and beside the processes."""

    databases: Mapping[str, DatabaseSettings]
    bus_urls: Mapping[str, str]
    redis_url: str


@contextlib.contextmanager
def running_processes(
    options: Options, servers: Servers, *, replicas: int = 1, late: Sequence[str] = ()
) -> Iterator[ProcessSystem]:
    """All processes, ready for the first request inside the block, stopped after it; blocks.

    Args:
        options: ports, folder and the time between blocks.
        servers: PostgreSQL's databases, RabbitMQ's addresses by service, Redis.
        replicas: of each service's API and worker. The gateway calls the first API of each.
        late: processes that the caller starts later.
    """
    processes = _processes(options, servers, replicas)
    started = [each for name, each in processes.items() if name not in late]
    try:
        for each in started:
            each.start()
        for each in started:
            each.wait_ready()
        yield ProcessSystem(
            gateway_url=f"http://{HOST}:{options.port}",
            chain_url=f"http://{HOST}:{options.chain_port}",
            services={
                name.removesuffix("-api"): each.url
                for name, each in processes.items()
                if name.endswith("-api")
            },
            secrets=load_or_make(options.data),
            databases=servers.databases,
            processes=processes,
        )
    finally:
        _stop_all(processes.values())


def end_leftovers(data: Path) -> None:
    """Kill processes that a killed supervisor left behind in this folder."""
    for file in (data / LOGS).glob(f"*{PID_SUFFIX}"):
        with contextlib.suppress(ValueError, psutil.Error):
            left = psutil.Process(int(file.read_text()))
            if any(word.startswith("memepool_") for word in left.cmdline()):
                left.kill()
                left.wait(STOP_TIMEOUT_S)
        file.unlink(missing_ok=True)


def _stop_all(processes: Iterable[Process]) -> None:
    """The gateway first: nothing new comes in; the world last: everybody asks it."""
    for names in (("gateway",), DATABASES, ("world",)):
        leaving = [each for each in processes if each.name.partition("-")[0] in names]
        for each in leaving:
            each.ask_to_stop()
        for each in leaving:
            each.stop()


def _processes(options: Options, servers: Servers, replicas: int) -> dict[str, Process]:
    secrets = load_or_make(options.data)
    logs = options.data / LOGS
    logs.mkdir(exist_ok=True)
    around = Surroundings(
        databases=servers.databases,
        ports=choose_ports(options.port),
        secrets=secrets,
        chain_url=f"http://{HOST}:{options.chain_port}/v1/bsv",
        aitubo_url=f"http://{HOST}:{options.aitubo_port}",
        store=options.data / STORE,
    )
    world = Process(
        "world",
        [
            *("memepool_sandbox", "world", "--port", str(options.chain_port)),
            *("--data", str(options.data), "--block-seconds", str(options.block_seconds)),
        ],
        {"MEMEPOOL_SANDBOX_AITUBO_KEY": secrets.aitubo_key},
        f"http://{HOST}:{options.chain_port}",
        f"{around.chain_url}/main/woc",
        logs / "world.log",
    )
    found = {"world": world}
    for part in build_parts(around):
        for number in range(1, replicas + 1):
            for role in ("api", "worker"):
                made = _of_service(part, role, number, servers, logs)
                found[made.name] = made
    return found


def _of_service(part: Part, role: str, number: int, servers: Servers, logs: Path) -> Process:
    http = part.settings.http
    if (role, number) != ("api", 1):
        port, internal_port = free_ports(2)
        http = http.model_copy(update={"port": port, "internal_port": internal_port})
    changes = {"http": http, "bus": BusSettings(url=SecretStr(servers.bus_urls[part.name]))}
    if part.name == "gateway":
        changes["redis"] = RedisSettings(url=SecretStr(servers.redis_url))
    settings = part.settings.model_copy(update=changes)
    name = f"{part.name}-{role}" if number == 1 else f"{part.name}-{role}-{number}"
    return Process(
        name,
        [f"memepool_{part.name}", role],
        environment_of(part.name, settings),
        f"http://{HOST}:{http.port}",
        f"http://{HOST}:{http.internal_port}/readyz",
        logs / f"{name}.log",
    )
