"""A real RabbitMQ for one machine: a private instance of the installed binaries, on a free port.

Everything of it (data, log, cookie, settings) lives in one folder; it listens on the loopback only.
It is administered by importing definitions documents, through `rabbitmqctl` or the HTTP API of the
management plugin.
"""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil
from yarl import URL

from memepool_sandbox.ports import free_ports

BOOT_TIMEOUT_S = 120
STOP_TIMEOUT_S = 30
COMMAND_TIMEOUT_S = 60
MANAGEMENT_PORT = 15672
ERLANG = "beam.smp"
# Debian's program of this name on the PATH changes user and writes to the system's folders.
_DEBIAN_PROGRAMS = Path("/usr/lib/rabbitmq/bin")
_CONFIGURATION = "log.console = false\nlog.file.level = warning\ndisk_free_limit.absolute = 50MB\n"

Document = dict[str, Any]
"""RabbitMQ's definitions: users, vhosts, permissions, exchanges, queues, bindings."""


class RabbitmqError(RuntimeError):
    """The broker does not come up, or refuses what it was told."""


def rabbitmq_program(name: str = "rabbitmq-server") -> str | None:
    """The path of an installed program of RabbitMQ's, if there is one."""
    return shutil.which(name, path=f"{_DEBIAN_PROGRAMS}{os.pathsep}{os.environ.get('PATH', '')}")


class RabbitmqServer:
    """A broker whose administrator we are.

    Attributes:
        url: the administrator's address, without a vhost.
    """

    def __init__(self, url: URL, administer: Callable[..., object]) -> None:
        self.url = url.with_path("").with_query(None)
        self._administer = administer

    @classmethod
    def at(cls, address: str) -> "RabbitmqServer":
        """A broker that somebody else runs, e.g. `amqp://guest:guest@127.0.0.1:5672`.

        Needs its management plugin, or that it is this machine's and we may use `rabbitmqctl`.
        """
        url = URL(address)
        base = f"http://{url.host}:{MANAGEMENT_PORT}/api"
        client = httpx.Client(base_url=base, auth=(url.user or "guest", url.password or "guest"))
        with suppress(httpx.TransportError):
            client.get("/overview").raise_for_status()
            return cls(url, lambda *command: _by_http(client, *command))
        client.close()
        program = shutil.which("rabbitmqctl")
        if program and url.host in {"127.0.0.1", "localhost", "::1"}:
            return cls(url, lambda *command: _by_program(program, None, *command))
        raise RabbitmqError(f"no management plugin answers at {base}, to make vhosts and users by")

    def import_definitions(self, document: Document) -> None:
        """Make users, vhosts, permissions, queues and so on exist."""
        self._administer("import_definitions", document)

    def forget(self, vhosts: Sequence[str], users: Sequence[str]) -> None:
        """Delete vhosts, with all that is in them, and users."""
        self._administer("forget", list(vhosts), list(users))

    def close_connections(self, vhost: str) -> None:
        """Have the broker close its clients' connections (`rabbitmqctl` only)."""
        self._administer("close_all_connections", "--vhost", vhost, "by the administrator")


class PrivateRabbitmq(RabbitmqServer):
    """An instance of the installed binaries, that can be killed and started again.

    What it holds belongs to the folder: the next instance there, of any process, has it.
    """

    def __init__(self, folder: Path) -> None:
        program = rabbitmq_program()
        if program is None:
            raise RabbitmqError("rabbitmq-server is not installed")
        self._program = program
        self._folder = folder.resolve()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.port, distribution_port = free_ports(2)
        # Data belong to the node of that name, which is one of many on this machine.
        folder_id = hashlib.sha256(str(self._folder).encode()).hexdigest()[:12]
        self._node = f"memepool-{folder_id}@localhost"
        (self._folder / "enabled_plugins").write_text("[].\n")
        (self._folder / "rabbitmq.conf").write_text(_CONFIGURATION)
        self._environment = os.environ | {
            "HOME": str(self._folder),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2"
            ),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        self._process: subprocess.Popen[bytes] | None = None
        super().__init__(URL(f"amqp://guest:guest@127.0.0.1:{self.port}"), self._command)

    def start(self) -> None:
        """Boot, or boot again; takes some ten seconds.

        Raises:
            RabbitmqError: it ended, or did not listen in time; with the end of what it said.
        """
        self._end_leftover()
        output = self._folder / "output"
        with output.open("ab") as said:
            self._process = subprocess.Popen(  # noqa: S603 - the installed broker
                [self._program],
                env=self._environment,
                stdout=said,
                stderr=said,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us; we stop it in our own time
            )
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            time.sleep(0.1)
        self.kill()
        raise RabbitmqError(f"RabbitMQ did not start: {output.read_text()[-2000:]}")

    def stop(self) -> None:
        """End it in order."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power failure would."""
        self._signal(signal.SIGKILL)

    def _end_leftover(self) -> None:
        """Kill the node that a killed process of ours left behind: there can be one of a name."""
        for process in psutil.process_iter(["name"]):
            with suppress(psutil.Error):
                if process.info["name"] != ERLANG:  # what it started may serve other nodes, too
                    continue
                if process.environ().get("RABBITMQ_NODENAME") == self._node:
                    process.kill()
                    process.wait(STOP_TIMEOUT_S)

    def _signal(self, number: signal.Signals) -> None:
        """The program is a script that starts the broker in a process group of its own."""
        if self._process is None:
            return
        family: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            script = psutil.Process(self._process.pid)
            family = [*script.children(recursive=True), script]
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(number)
        for each in psutil.wait_procs(family, STOP_TIMEOUT_S)[1]:
            each.kill()
        self._process.wait()
        self._process = None

    def _command(self, command: str, *arguments: Any) -> None:
        program = rabbitmq_program("rabbitmqctl")
        if program is None:
            raise RabbitmqError("rabbitmqctl is not installed")
        _by_program(program, self._environment, command, *arguments)


def _by_program(
    program: str, environment: dict[str, str] | None, command: str, *arguments: Any
) -> None:
    """Run a `rabbitmqctl` command. One takes most of a second, so deleting many is one."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        if command == "import_definitions":
            json.dump(arguments[0], file)
            file.flush()
            Path(file.name).chmod(0o644)  # the node's user reads it
            arguments = (file.name,)
        elif command == "forget":
            command, arguments = "eval", (_forgetting(*arguments),)
        done = subprocess.run(  # noqa: S603 - its own tool
            [program, "--quiet", command, *arguments],
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
    if done.returncode != 0:
        raise RabbitmqError(f"rabbitmqctl {command}: {done.stdout}{done.stderr}")


def _forgetting(vhosts: Sequence[str], users: Sequence[str]) -> str:
    """The deletion in Erlang."""
    by = '<<"memepool">>'
    calls = [f"rabbit_vhost:delete(<<{json.dumps(name)}>>, {by})" for name in vhosts]
    calls += [
        f"rabbit_auth_backend_internal:delete_user(<<{json.dumps(name)}>>, {by})" for name in users
    ]
    return ", ".join([*calls, "ok."])


def _by_http(client: httpx.Client, command: str, *arguments: Any) -> None:
    if command == "import_definitions":
        _checked(client.post("/definitions", json=arguments[0], timeout=COMMAND_TIMEOUT_S))
        return
    for things, names in zip(("vhosts", "users"), arguments, strict=True):
        for name in names:
            _checked(client.delete(f"/{things}/{quote(name, safe='')}"))


def _checked(answer: httpx.Response) -> None:
    if answer.is_error:
        raise RabbitmqError(f"{answer.request.url}: {answer.status_code} {answer.text}")
