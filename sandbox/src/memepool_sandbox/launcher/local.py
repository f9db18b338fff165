"""`make up-local`, `make down-local`: the processes of production on this machine, for a person.

PostgreSQL is the sandbox's. RabbitMQ and Redis are those at `MEMEPOOL_TEST_RABBITMQ` and
`MEMEPOOL_TEST_REDIS`, else private instances of the installed programs.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from yarl import URL

from memepool_common import telemetry
from memepool_common.settings import TelemetrySettings
from memepool_sandbox.chain.journal import JournalError
from memepool_sandbox.launcher import topologies
from memepool_sandbox.launcher.options import Options, PortTakenError
from memepool_sandbox.launcher.processes import (
    ProcessError,
    Servers,
    end_leftovers,
    running_processes,
)
from memepool_sandbox.launcher.services import SERVICES
from memepool_sandbox.launcher.system import make_data_folder, prepare_databases
from memepool_sandbox.postgres import PostgresError, start_postgres
from memepool_sandbox.rabbitmq_definitions import definitions
from memepool_sandbox.rabbitmq_server import PrivateRabbitmq, RabbitmqError, RabbitmqServer
from memepool_sandbox.redis_server import PrivateRedis
from memepool_sandbox.server_programs import MissingServerError, require_program

EXIT_WRONG = 1
EXIT_UNUSABLE = 2
SUPERVISE = "serve-local"
PID_FILE = "local.pid"
READY_FILE = "local.ready"
LOG_FILE = "local.log"
UP_TIMEOUT_S = 180
DOWN_TIMEOUT_S = 120
POLL_S = 0.2
VHOST = "memepool-local"
BUS_PASSWORD = "local"  # noqa: S105 - the broker listens on the loopback only


def up(options: Options) -> int:
    """Start everything in the background and wait until it can be used; the exit code."""
    make_data_folder(options.data)
    if _running(options.data):
        print(f"memepool: already up in {options.data}; make down-local ends it", file=sys.stderr)
        return EXIT_UNUSABLE
    (options.data / READY_FILE).unlink(missing_ok=True)
    with (options.data / LOG_FILE).open("wb") as log:
        command = [*("-m", "memepool_sandbox", SUPERVISE), *_arguments(options)]
        supervisor = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + UP_TIMEOUT_S
    while time.monotonic() < deadline and supervisor.poll() is None:
        if (options.data / READY_FILE).exists():
            print((options.data / READY_FILE).read_text(), end="")
            return os.EX_OK
        time.sleep(POLL_S)
    print((options.data / LOG_FILE).read_text()[-3000:], file=sys.stderr)
    return EXIT_WRONG


def down(data: Path) -> int:
    """End what `up` started, in order; the exit code."""
    pid = _running(data)
    if pid is None:
        end_leftovers(data)
        print("memepool: nothing is up", file=sys.stderr)
        return os.EX_OK
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_TIMEOUT_S
    while _running(data) is not None:
        if time.monotonic() > deadline:
            print(f"memepool: process {pid} does not end", file=sys.stderr)
            return EXIT_WRONG
        time.sleep(POLL_S)
    print("Stopped. Everything is kept.")
    return os.EX_OK


def serve(options: Options) -> int:
    """The supervisor that `up` leaves behind: runs everything until SIGTERM."""
    telemetry.setup("sandbox", TelemetrySettings(log_level="WARNING", log_json=False))
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    (options.data / PID_FILE).write_text(str(os.getpid()))
    end_leftovers(options.data)
    try:
        options.require_free_ports()
        with (
            local_servers(options.data) as servers,
            running_processes(options, servers) as system,
        ):
            names = ", ".join(system.processes)
            (options.data / READY_FILE).write_text(
                f"Memepool is up as {len(system.processes)} processes: {names}\n"
                f"  API and docs  {system.gateway_url}/docs\n"
                f"  control       POST {system.chain_url}/control/mine\n"
                f"  logs          {options.data.resolve() / 'logs'}\n"
                f"make down-local ends it.\n"
            )
            stopping.wait()
    except (
        *(PortTakenError, PostgresError, JournalError, ProcessError),
        *(RabbitmqError, MissingServerError),
    ) as error:
        print(f"memepool: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    finally:
        for name in (READY_FILE, PID_FILE):
            (options.data / name).unlink(missing_ok=True)
    return os.EX_OK


@contextlib.contextmanager
def local_servers(data: Path, *, fsync: bool = True) -> Iterator[Servers]:
    """PostgreSQL, RabbitMQ and Redis, ready for all services; blocks."""
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(start_postgres(data / "postgres", fsync=fsync))
        broker = stack.enter_context(_rabbitmq(data / "rabbitmq"))
        redis_url = stack.enter_context(_redis(data / "redis"))
        yield Servers(prepare_databases(postgres), provision_broker(broker), redis_url)


def provision_broker(broker: RabbitmqServer) -> dict[str, str]:
    """Users, rights and the whole topology; the address for each service."""
    passwords = dict.fromkeys(SERVICES, BUS_PASSWORD)
    broker.import_definitions(definitions(VHOST, topologies.all_queues(), passwords))
    return {
        service: str(
            broker.url.with_user(service).with_password(BUS_PASSWORD).with_path(f"/{VHOST}")
        )
        for service in SERVICES
    }


@contextlib.contextmanager
def _rabbitmq(folder: Path) -> Iterator[RabbitmqServer]:
    given = os.environ.get("MEMEPOOL_TEST_RABBITMQ")
    if given:
        yield RabbitmqServer.at(given)
        return
    require_program("rabbitmq-server", "rabbitmq-server", "MEMEPOOL_TEST_RABBITMQ")
    private = PrivateRabbitmq(folder)
    try:
        private.start()
        yield private
    finally:
        private.stop()


@contextlib.contextmanager
def _redis(folder: Path) -> Iterator[str]:
    given = os.environ.get("MEMEPOOL_TEST_REDIS")
    if given:
        yield str(URL(given))
        return
    folder.mkdir(exist_ok=True)
    private = PrivateRedis(folder)
    try:
        private.start()
        yield private.url
    finally:
        private.stop()


def _running(data: Path) -> int | None:
    """The supervisor's process id, if it lives; another process may have its number by now."""
    try:
        pid = int((data / PID_FILE).read_text())
        return pid if SUPERVISE in psutil.Process(pid).cmdline() else None
    except (FileNotFoundError, ValueError, psutil.Error):
        return None


def _arguments(options: Options) -> list[str]:
    return [
        *("--port", str(options.port), "--data", str(options.data)),
        *("--block-seconds", str(options.block_seconds), "--players", "0"),
    ]
