"""A private, durable PostgreSQL with an empty ledger, pgbench, and a meter of processor time."""

import contextlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
from pydantic import SecretStr

from memepool_common.migrations import migrate
from memepool_common.settings import DatabaseSettings
from memepool_sandbox.postgres import PostgresServer, provision, start_postgres

SCALE = 50
CLIENTS = 16


class Cost(NamedTuple):
    """Processor time per operation, in microseconds."""

    python_us: float
    postgres_us: float


class Meter:
    """Counts the processor time of this process (or another) and of the server from now on."""

    def __init__(self, server: "Setting", python: psutil.Process | None = None) -> None:
        self._server = server
        self._python = python or psutil.Process()
        self._before = self._now()

    def per(self, operations: int) -> Cost:
        """What each of so many operations took."""
        python, postgres = self._now()
        number = max(1, operations) / 1e6
        return Cost((python - self._before[0]) / number, (postgres - self._before[1]) / number)

    def _now(self) -> tuple[float, float]:
        own = self._python.cpu_times()
        return own.user + own.system, self._server.cpu_s()


class Setting:
    """The server that everything is measured on."""

    def __init__(self, server: PostgresServer, pgbench: str | None, postmaster_pid: int) -> None:
        self.server = server
        self.pgbench = pgbench
        self._postmaster = psutil.Process(postmaster_pid)
        provision(server, "payments")
        migrate("memepool_payments", server.url("payments", "payments_owner"), "payments_app")

    @property
    def database(self) -> DatabaseSettings:
        """The ledger, as the application sees it."""
        return DatabaseSettings(
            url=SecretStr(self.server.url("payments", "payments_app")),
            owner_url=SecretStr(self.server.url("payments", "payments_owner")),
            app_role="payments_app",
            pool_size=12,
        )

    def cpu_s(self) -> float:
        """Processor seconds of the server: its living processes, and those that have ended."""
        times = self._postmaster.cpu_times()
        total = times.user + times.system + times.children_user + times.children_system
        for child in self._postmaster.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                own = child.cpu_times()
                total += own.user + own.system
        return total

    def checkpoint(self) -> None:
        """Write out what earlier loads have left to be written."""
        with self.server.administer() as admin:
            admin.execute("checkpoint")

    def prepare_reference(self) -> None:
        """Fill pgbench's tables."""
        with self.server.administer() as admin:
            admin.execute("create database reference")
        self._pgbench("-i", "-q", "-s", str(SCALE))

    def reference(self, seconds: int) -> float:
        """Transactions per second of pgbench's TPC-B-like script."""
        load = ("-c", str(CLIENTS), "-j", "2", "-M", "prepared", "-T", str(seconds))
        said = self._pgbench("-n", *load)
        found = re.search(r"tps = ([0-9.]+)", said)
        if found is None:
            raise RuntimeError(said)
        return float(found.group(1))

    def _pgbench(self, *options: str) -> str:
        assert self.pgbench is not None
        where = self.server.superuser
        at = ("-h", str(where.query["host"]), "-U", str(where.username))
        command = [self.pgbench, *at, *options, "reference"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - PostgreSQL's own
        return done.stdout


def find_pgbench() -> str | None:
    """In the PATH, or the newest of the system's packages."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    return shutil.which("pgbench") or (str(installed[-1]) if installed else None)


@contextlib.contextmanager
def open_setting() -> Iterator[Setting]:
    """Such a server, gone with its data when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="ledger-"))
    try:
        with start_postgres(folder) as server:
            pid = int((folder / "cluster/postmaster.pid").read_text().split()[0])
            yield Setting(server, find_pgbench(), pid)
    finally:
        shutil.rmtree(folder)


def deadline_in(seconds: float) -> float:
    """A moment of the monotonic clock."""
    return time.monotonic() + seconds
