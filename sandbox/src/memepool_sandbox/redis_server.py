"""A Redis of our own, from the installed program."""

import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from yarl import URL

from memepool_sandbox.ports import free_ports
from memepool_sandbox.server_programs import MissingServerError, require_program

START_TIMEOUT_S = 20


class PrivateRedis:
    """An instance of the installed binary on a free port, that can be stopped and started again.

    Its data are gone with it, as those of a cache may be.
    """

    def __init__(self, folder: Path) -> None:
        self._program = require_program("redis-server", "redis-server", "MEMEPOOL_TEST_REDIS")
        self._folder = folder
        (self.port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers.

        Raises:
            MissingServerError: it does not.
        """
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        arguments += ["--dir", str(self._folder), "--logfile", str(self._folder / "log")]
        self._process = subprocess.Popen([self._program, *arguments])  # noqa: S603 - installed
        deadline = time.monotonic() + START_TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError):
                command(self.url, "PING")
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


def command(url: str, words: str) -> None:
    """Say one thing to Redis in its inline form; a library for that would be one too many."""
    address = URL(url)
    lines = [f"AUTH {address.password}"] if address.password else []
    lines += [f"SELECT {address.path.strip('/') or 0}", words]
    with socket.create_connection((address.host or "127.0.0.1", address.port or 6379), 5) as link:
        link.sendall("".join(f"{line}\r\n" for line in lines).encode())
        answers = link.makefile("rb")
        for line in lines:
            answer = answers.readline()
            if not answer.startswith(b"+"):
                raise MissingServerError(
                    f"Redis at {address.host} to {line.split()[0]}: {answer!r}"
                )
