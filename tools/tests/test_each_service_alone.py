"""Each service, built and installed with nothing but what it names itself, at locked versions."""

import os
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError

import pytest
from psycopg import sql

from memepool_sandbox.postgres import PostgresServer, provision
from tools.contracts import example_settings
from tools.memepool import LOCK, ROOT

UV = Path(sys.executable).with_name("uv")
START_TIMEOUT_S = 60.0
SERVICES = ["auth", "content", "gateway", "payments", "rounds"]
MEMBERS = {
    "memepool-chain": ROOT / "libs/chain",
    "memepool-common": ROOT / "libs/common",
} | {f"memepool-{service}": ROOT / "services" / service for service in SERVICES}

InstalledPython = Callable[[str], Path]


def run(*command: str | Path, environment: dict[str, str] | None = None, cwd: Path = ROOT) -> str:
    words = [str(part) for part in command]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=120, cwd=cwd, env=environment
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


def own_members(service: str) -> set[str]:
    """The service's package and the libraries of this repository that it asks for."""
    description = tomllib.loads((MEMBERS[f"memepool-{service}"] / "pyproject.toml").read_text())
    asked: list[str] = description["project"]["dependencies"]
    return {f"memepool-{service}", *(name for name in asked if name.startswith("memepool-"))}


@pytest.fixture(scope="module")
def installed_python(tmp_path_factory: pytest.TempPathFactory) -> InstalledPython:
    """The Python of an environment that holds one service, by the service's name."""
    wheels = tmp_path_factory.mktemp("wheels")
    for member in MEMBERS.values():
        run(UV, "build", "--quiet", "--wheel", "--out-dir", wheels, member)
    made: dict[str, Path] = {}

    def install(service: str) -> Path:
        if service not in made:
            venv = tmp_path_factory.mktemp(service)
            names = [name.replace("-", "_") for name in own_members(service)]
            own_wheels = [wheel for name in names for wheel in wheels.glob(f"{name}-*.whl")]
            run(UV, "venv", "--quiet", "--clear", "--python", sys.executable, venv)
            # A constraint pins what is asked for, and brings nothing that is not.
            options: list[str | Path] = [
                "--quiet",
                "--no-sources",
                "--only-binary",
                ":all:",
                "--constraint",
                LOCK,
            ]
            options += ["--python", venv / "bin/python"]
            run(UV, "pip", "install", *options, *own_wheels)
            made[service] = venv / "bin/python"
        return made[service]

    return install


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_until_alive(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=2) as answer:
                assert answer.status == 200
                return
        except URLError:
            time.sleep(0.05)
    pytest.fail(f"no answer on port {port} within {START_TIMEOUT_S:.0f} s")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_installs_with_only_its_own_dependencies(
    service: str, installed_python: InstalledPython
) -> None:
    python = installed_python(service)
    listed = run(UV, "pip", "list", "--python", python, "--format", "freeze").splitlines()
    own = {line.partition("==")[0] for line in listed if line.startswith("memepool")}
    assert own == own_members(service)
    source = MEMBERS[f"memepool-{service}"] / "src" / f"memepool_{service}"
    rooms = [name for name in ("app", "worker") if (source / f"{name}.py").exists()]
    assert "app" in rooms
    run(python, "-c", "import " + ", ".join(f"memepool_{service}.{room}" for room in rooms))
    assert "usage:" in run(python, "-m", f"memepool_{service}", "--help")


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


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_starts_alone_from_the_example_settings(
    service: str,
    installed_python: InstalledPython,
    database: Callable[[str], dict[str, str]],
    tmp_path: Path,
) -> None:
    command = [str(installed_python(service)), "-m", f"memepool_{service}"]
    port, internal_port = free_port(), free_port()
    settings = {"HTTP__PORT": str(port), "HTTP__INTERNAL_PORT": str(internal_port)}
    if service != "gateway":
        settings |= database(service)
    prefix = f"MEMEPOOL_{service.upper()}_"
    environment = example_settings(service)
    environment |= {prefix + name: value for name, value in settings.items()}
    if service != "gateway":
        run(*command, "migrate", environment=environment, cwd=tmp_path)
    with subprocess.Popen(
        [*command, "api"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env=environment,
    ) as process:
        try:
            wait_until_alive(process, internal_port)
        finally:
            process.terminate()
        log, _ = process.communicate(timeout=60)
    assert process.returncode == 0, log
