"""Each service as its image is built: with nothing but what it names itself, at locked versions."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest
from psycopg import sql

from memepool_sandbox.ports import free_ports
from memepool_sandbox.postgres import PostgresServer, provision
from tools.env_example import examples
from tools.install_member import ROOT, own_members
from tools.tests.dockerfiles import dockerfile_of, replay_build, stages_of

UV = Path(sys.executable).with_name("uv")
START_TIMEOUT_S = 60.0
SERVICES = ["auth", "content", "gateway", "payments", "rounds"]

Settings = Callable[[str], dict[str, str]]


def run(*command: str | Path, environment: dict[str, str] | None = None, cwd: Path = ROOT) -> str:
    words = [str(part) for part in command]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=120, cwd=cwd, env=environment
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where every member's image is built in turn: at one path, all share their byte code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("bytecode")))
        yield tmp_path_factory.mktemp("image") / "build"


@pytest.fixture(scope="module", params=[*SERVICES, "sandbox"])
def member(request: pytest.FixtureRequest) -> str:
    """Whose image it is."""
    return str(request.param)


@pytest.fixture(scope="module")
def command(member: str, folder: Path) -> list[str]:
    """The entry point of the member's image, after the steps by which the image is built."""
    shutil.rmtree(folder, ignore_errors=True)
    return replay_build(member, folder)


def ask(port: int, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
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
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"no answer on port {port} within {START_TIMEOUT_S:.0f} s")


def test_a_member_installs_with_only_its_own_dependencies(
    member: str, command: list[str], tmp_path: Path
) -> None:
    python, *module = command
    own = own_members(member)
    listed = run(UV, "pip", "list", "--python", python, "--format", "freeze").splitlines()
    assert [line.partition("==")[0] for line in listed if line.startswith("memepool")] == own
    run(UV, "pip", "check", "--python", python)
    default = json.loads(stages_of(dockerfile_of(member))[1].all("CMD")[0])
    usage = run(python, *module, "--help", cwd=tmp_path)  # it imports the API and the worker
    assert default[0] in usage


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[Settings]:
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
def settings_of(database: Settings) -> Settings:
    """The example settings of a service, with ports that are free and a database that exists."""

    def make(service: str) -> dict[str, str]:
        port, internal_port = free_ports(2)
        changed = {"HTTP__PORT": str(port), "HTTP__INTERNAL_PORT": str(internal_port)}
        if service != "gateway":
            changed |= database(service)
        prefix = f"MEMEPOOL_{service.upper()}_"
        return examples(service) | {prefix + k: value for k, value in changed.items()}

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
            while b"starting" in (readiness := ask(port, "/readyz"))[1]:
                time.sleep(0.05)
        finally:
            process.terminate()
        log, _ = process.communicate(timeout=60)
    assert process.returncode == 0, log
    return readiness


@pytest.mark.parametrize("member", SERVICES, indirect=True)
def test_a_service_starts_alone_from_the_example_settings(
    member: str, command: list[str], settings_of: Settings, tmp_path: Path
) -> None:
    """Its API lives; its worker waits for its broker."""
    environment = settings_of(member)
    prefix = f"MEMEPOOL_{member.upper()}_"
    internal_port = int(environment[f"{prefix}HTTP__INTERNAL_PORT"])
    if member != "gateway":
        run(*command, "migrate", environment=environment, cwd=tmp_path)
    run_until_alive([*command, "api"], environment, tmp_path, internal_port)
    if member != "gateway":
        nobody = f"amqp://{member}:x@127.0.0.1:{free_ports(1)[0]}/memepool"
        environment[f"{prefix}BUS__URL"] = nobody
        status, body = run_until_alive([*command, "worker"], environment, tmp_path, internal_port)
        waiting = {"status": "failing", "bus": "ConnectionError"}
        assert (status, json.loads(body)) == (503, waiting)


@pytest.mark.parametrize("member", ["auth"], indirect=True)
def test_a_worker_without_a_broker_says_what_is_missing(
    command: list[str], settings_of: Settings, tmp_path: Path
) -> None:
    environment = settings_of("auth")
    environment.pop("MEMEPOOL_AUTH_BUS__URL", None)
    done = subprocess.run(
        [*command, "worker"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (2, "MEMEPOOL_AUTH_BUS__URL is not set\n")
