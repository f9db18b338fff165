"""The launcher as people run it: a process of its own, on free ports, with a DATA folder."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import psutil
from pydantic import SecretStr

from memepool_common.settings import DatabaseSettings
from memepool_sandbox.launcher.options import Options, free_port_block

START_TIMEOUT_S = 90.0
POLL_S = 0.05
A_DAY_S = 86_400
_SOCKET_FOLDER = "unix_socket_directories="


class Launched:
    """`python -m memepool_sandbox run` on one DATA folder, started again and again."""

    def __init__(self, data: Path) -> None:
        self.options = Options(port=free_port_block(), data=data)
        self.started_in_s: list[float] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._output = data.with_suffix(".out")

    @property
    def gateway_url(self) -> str:
        """The public API."""
        return f"http://127.0.0.1:{self.options.port}"

    @property
    def chain_url(self) -> str:
        """The simulated chain and its control API."""
        return f"http://127.0.0.1:{self.options.chain_port}"

    @property
    def output(self) -> str:
        """What the running process has said so far."""
        return self._output.read_text()

    def command(self, *more: str) -> list[str]:
        """The command line of a start on our ports and folder; later options win."""
        run = [sys.executable, "-m", "memepool_sandbox", "run", "--port", str(self.options.port)]
        quiet = ["--data", str(self.options.data), "--players", "0"]
        return [*run, *quiet, "--block-seconds", str(A_DAY_S), *more]

    async def start(self, *more: str) -> None:
        """Start, and return when the API answers."""
        begun_s = time.monotonic()
        self._process = self._launch(more)
        while not await self._answers():
            assert self._process.poll() is None, self.output
            assert time.monotonic() < begun_s + START_TIMEOUT_S, self.output
            await asyncio.sleep(POLL_S)
        self.started_in_s.append(time.monotonic() - begun_s)

    def _launch(self, more: Sequence[str]) -> subprocess.Popen[bytes]:
        with self._output.open("wb") as output:
            return subprocess.Popen(
                self.command(*more), stdout=output, stderr=output, start_new_session=True
            )

    async def _answers(self) -> bool:
        if "Memepool is ready." not in self.output:
            return False
        async with httpx.AsyncClient() as http:
            return (await http.get(f"{self.gateway_url}/rounds/current")).is_success

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def process(self) -> psutil.Process:
        """The launcher's process."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def kill(self) -> None:
        """SIGKILL to the launcher alone: what it started is left behind."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def interrupt(self, timeout_s: float) -> int:
        """Ctrl-C; the exit code. Raises TimeoutExpired."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(timeout_s)

    def stop(self) -> None:
        """Leave nothing behind, whatever state it is in."""
        if self.running:
            helpers = self.process.children(recursive=True)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.interrupt(30)
            for process in helpers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def payments(self) -> DatabaseSettings:
        """Payments' database, found through the running PostgreSQL's command line."""
        (socket,) = self._socket_folders()
        url = f"postgresql+psycopg://payments_app@/payments?host={socket}"
        return DatabaseSettings(url=SecretStr(url), app_role="payments_app")

    def _socket_folders(self) -> Iterator[str]:
        for child in self.process.children():
            for argument in child.cmdline():
                if argument.startswith(_SOCKET_FOLDER):
                    yield argument.removeprefix(_SOCKET_FOLDER)
