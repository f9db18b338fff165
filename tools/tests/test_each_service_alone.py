"""Each service as its image is built: with nothing but what it names itself, at locked versions."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
from psycopg import sql

from memepool_sandbox.postgres import PostgresServer, provision
from tools.contracts import example_settings
from tools.install_member import ROOT, folder_of, own_members
from tools.tests.dockerfiles import dockerfile_of, replay_build, stages_of

UV = Path(sys.executable).with_name("uv")
START_TIMEOUT_S = 60.0
SERVICES = ["auth", "content", "gateway", "payments", "rounds"]

Commands = Callable[[str], list[str]]


def run(*command: str | Path, environment: dict[str, str] | None = None, cwd: Path = ROOT) -> str:
    words = [str(part) for part in command]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=120, cwd=cwd, env=environment
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def command_of(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    """The entry point of a member's image, after the steps by which the image is built."""
    made: dict[str, list[str]] = {}

    def command(member: str) -> list[str]:
        if member not in made:
            made[member] = replay_build(member, tmp_path_factory.mktemp(member))
        return made[member]

    return command


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def ask(port: int, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()


def wait_until_alive(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        try:
            assert ask(port, "/livez")[0] == 200
        except URLError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"no answer on port {port} within {START_TIMEOUT_S:.0f} s")


@pytest.mark.parametrize("member", [*SERVICES, "sandbox"])
def test_a_member_installs_with_only_its_own_dependencies(
    member: str, command_of: Commands, tmp_path: Path
) -> None:
    python, *module = command_of(member)
    own = own_members(member)
    listed = run(UV, "pip", "list", "--python", python, "--format", "freeze").splitlines()
    assert [line.partition("==")[0] for line in listed if line.startswith("memepool")] == own
    run(UV, "pip", "check", "--python", python)
    source = folder_of(f"memepool-{member}") / "src" / f"memepool_{member}"
    rooms = [name for name in ("app", "worker") if (source / f"{name}.py").exists()]
    imports = [f"memepool_{member}", *(f"memepool_{member}.{room}" for room in rooms)]
    run(python, "-c", "import " + ", ".join(imports), cwd=tmp_path)
    default = json.loads(stages_of(dockerfile_of(member))[1].all("CMD")[0])
    usage = run(python, *module, "--help", cwd=tmp_path)
    assert default[0] in usage


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[Callable[[str], dict[str, str]]]:
    """Gives a service an empty database, as its settings name it."""
    made: list[str] = []

    def make(service: str) -> dict[str, str]:
        name = f"alone_{os.getpid()}_{service}"
        provision(postgres_server, service, database=name)
        made.append(name)
        return {
            "DATABASE__URL": postgres_server.url(name, f"{service}_app"),
            "DATABASE__OWNER_URL": postgres_server.url(name, f"{service}_owner"),
        }

    yield make
    with postgres_server.administer() as admin:
        for name in made:
            admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def settings_of(database: Callable[[str], dict[str, str]]) -> Callable[[str], dict[str, str]]:
    """The example settings of a service, with ports that are free and a database that exists."""

    def make(service: str) -> dict[str, str]:
        changed = {"HTTP__PORT": str(free_port()), "HTTP__INTERNAL_PORT": str(free_port())}
        if service != "gateway":
            changed |= database(service)
        prefix = f"MEMEPOOL_{service.upper()}_"
        return example_settings(service) | {prefix + k: value for k, value in changed.items()}

    return make


def run_until_alive(
    command: list[str], environment: dict[str, str], folder: Path, port: int
) -> tuple[int, bytes]:
    """Start a process, see what /readyz says once it lives, end it by SIGTERM: exit code 0."""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=environment,
    ) as process:
        try:
            wait_until_alive(process, port)
            readiness = ask(port, "/readyz")
        finally:
            process.terminate()
        log, _ = process.communicate(timeout=60)
    assert process.returncode == 0, log
    return readiness


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_starts_alone_from_the_example_settings(
    service: str,
    command_of: Commands,
    settings_of: Callable[[str], dict[str, str]],
    tmp_path: Path,
) -> None:
    command, environment = command_of(service), settings_of(service)
    internal_port = int(environment[f"MEMEPOOL_{service.upper()}_HTTP__INTERNAL_PORT"])
    if service != "gateway":
        run(*command, "migrate", environment=environment, cwd=tmp_path)
    run_until_alive([*command, "api"], environment, tmp_path, internal_port)


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "gateway"])
def test_a_worker_waits_for_its_broker(
    service: str,
    command_of: Commands,
    settings_of: Callable[[str], dict[str, str]],
    tmp_path: Path,
) -> None:
    command, environment = command_of(service), settings_of(service)
    prefix = f"MEMEPOOL_{service.upper()}_"
    environment[f"{prefix}BUS__URL"] = f"amqp://{service}:x@127.0.0.1:{free_port()}/memepool"
    internal_port = int(environment[f"{prefix}HTTP__INTERNAL_PORT"])
    run(*command, "migrate", environment=environment, cwd=tmp_path)
    status, body = run_until_alive([*command, "worker"], environment, tmp_path, internal_port)
    assert (status, json.loads(body)) == (503, {"status": "failing", "bus": "ConnectionError"})


def test_a_worker_without_a_broker_says_what_is_missing(
    command_of: Commands, settings_of: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    environment = settings_of("auth")
    environment.pop("MEMEPOOL_AUTH_BUS__URL", None)
    done = subprocess.run(
        [*command_of("auth"), "worker"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (2, "MEMEPOOL_AUTH_BUS__URL is not set\n")
