"""Pytest fixtures: a Redis, empty at the start of each test.

It is the one at `MEMEPOOL_TEST_REDIS` (`redis://host:port`; each test process empties a database of
its own there), else a private instance of the installed binary, one per test process.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from yarl import URL

from memepool_sandbox.ports import free_ports
from memepool_sandbox.testing.install import MissingServerError, require_program

VARIABLE = "MEMEPOOL_TEST_REDIS"
START_TIMEOUT_S = 20


class PrivateRedis:
    """An instance of the installed binary on a free port, that can be stopped and started again.

    Its data are gone with it, as those of a cache may be.
    """

    def __init__(self, folder: Path) -> None:
        self._program = require_program("redis-server", "redis-server", VARIABLE)
        self._folder = folder
        (self.port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        arguments += ["--dir", str(self._folder), "--logfile", str(self._folder / "log")]
        self._process = subprocess.Popen([self._program, *arguments])  # noqa: S603 - installed
        deadline = time.monotonic() + START_TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError):
                _command(self.url, "PING")
                return
            time.sleep(0.02)
        self.stop()
        raise MissingServerError(f"redis-server did not start; see {self._folder / 'log'}")

    def stop(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def private_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    """A Redis of our own, that a test may stop; it must be up again when the test ends."""
    folder = tmp_path_factory.mktemp("redis")
    server = PrivateRedis(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def redis_server_url(request: pytest.FixtureRequest) -> str:
    """A Redis for a whole module."""
    given = os.environ.get(VARIABLE)
    return given or str(request.getfixturevalue("private_redis").url)


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> str:
    """The address of an empty database."""
    given = os.environ.get(VARIABLE)
    if given:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
        url = str(URL(given).with_path(f"/{worker.removeprefix('gw')}"))
    else:
        url = request.getfixturevalue("private_redis").url
    _command(url, "FLUSHDB")
    return url


def _command(url: str, command: str) -> None:
    """Say one thing to Redis in its inline form; a library for that would be one too many."""
    address = URL(url)
    lines = [f"AUTH {address.password}"] if address.password else []
    lines += [f"SELECT {address.path.strip('/') or 0}", command]
    with socket.create_connection((address.host or "127.0.0.1", address.port or 6379), 5) as link:
        link.sendall("".join(f"{line}\r\n" for line in lines).encode())
        answers = link.makefile("rb")
        for line in lines:
            answer = answers.readline()
            if not answer.startswith(b"+"):
                raise MissingServerError(
                    f"Redis at {address.host} to {line.split()[0]}: {answer!r}"
                )
