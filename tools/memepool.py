"""The command behind the Makefile. Needs the standard library only, of any Python 3.7 or later.

Whatever it is asked for, it first makes the virtual environment when it is missing or out of date:
exactly the packages of requirements.lock, then this repository's own packages, editable. Python
3.11 to 3.13 is found on the PATH; where there is none, one line says what to install.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_BIN = VENV / "bin"
STAMP = VENV / "memepool.stamp"
LOCK = ROOT / "requirements.lock"
OLDEST, NEWEST = (3, 11), (3, 13)
EXIT_USAGE = 2
DESCRIPTIONS = ("libs/*/pyproject.toml", "services/*/pyproject.toml", "sandbox/pyproject.toml")


class SetupError(Exception):
    """The machine or the network lacks something; the message names it in one line."""


def main(arguments: list[str]) -> int:
    """Run one command; its own arguments go through to what it starts."""
    commands = {
        "setup": lambda _rest: 0,
        "run": lambda rest: _replace_process("-m", "memepool_sandbox", "run", *rest),
        "demo": lambda rest: _replace_process("-m", "memepool_sandbox", "demo", *rest),
        "up-local": lambda rest: _replace_process("-m", "memepool_sandbox", "up-local", *rest),
        "down-local": lambda rest: _replace_process("-m", "memepool_sandbox", "down-local", *rest),
        "up": up,
        "down": lambda rest: compose("down", *rest),
        "test": test,
        "lint": lint,
        "types": lambda _rest: _step("mypy", "."),
        "contracts": lambda _rest: _step("python", "-m", "tools.contracts"),
        "kubernetes": lambda _rest: _step("python", "-m", "tools.kubernetes"),
        "lock": lock,
        "clean": clean,
    }
    parser = argparse.ArgumentParser(prog="memepool", description=(__doc__ or "").split(".")[0])
    parser.add_argument("command", choices=commands)
    command = parser.parse_args(arguments[:1]).command
    # Many containers set it. Every process that a command starts would compile 3,000 modules anew,
    # 4 s of CPU each; `__pycache__` is inside the checkout, and git ignores it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        if command != "clean":
            ensure_python()
            ensure_environment()
        return commands[command](arguments[1:])
    except SetupError as error:
        print(f"memepool: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return 130


def up(rest: list[str]) -> int:
    """Everything in containers, after making the secrets that are missing."""
    parser = argparse.ArgumentParser(prog="memepool up")
    parser.add_argument("--port", default="8000")
    parser.add_argument("--block-seconds", default="60")
    told = parser.parse_args(rest)
    failed = _step("python", "-m", "tools.deployment_secrets")
    os.environ.update(PORT=told.port, BLOCK_SECONDS=told.block_seconds)
    return failed or compose("up", "--build", "--detach", "--wait")


def compose(*arguments: str) -> int:
    """Docker Compose, told our secrets."""
    if shutil.which("docker") is None:
        message = "needs Docker with its Compose plugin (make run needs neither)"
        raise SetupError(message)
    command = ["docker", "compose", "--env-file", "deploy/secrets.env", *arguments]
    print(f"$ {' '.join(command)}", flush=True)
    return subprocess.call(command, cwd=str(ROOT))


def test(rest: list[str]) -> int:
    """The whole suite; a file's tests stay together, with what they share.

    Half of the time a test waits for a process, a block or a broker: three of them keep two
    processors at work.
    """
    return _step("pytest", "-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", *rest)


def lint(_rest: list[str]) -> int:
    """Every check, also after one has failed, so that one run shows all there is to mend."""
    failed = [
        step[0]
        for step in (
            ("ruff", "check", "."),
            ("ruff", "format", "--check", "."),
            ("mypy", "."),
            ("lint-imports",),
            ("python", "tools/lint_project.py"),
        )
        if _step(*step) != 0
    ]
    print(f"lint: failed: {', '.join(failed)}" if failed else "lint: all checks passed")
    return 1 if failed else 0


def lock(rest: list[str]) -> int:
    """Resolve all members and the tools together, for every supported machine and Python."""
    return _step("uv", *compile_arguments(LOCK), *rest)


def compile_arguments(output: Path) -> list[str]:
    """What uv is told, to write a lock file without any address in it."""
    arguments = ["pip", "compile", "--universal", "--python-version", ".".join(map(str, OLDEST))]
    arguments += ["--generate-hashes", "--only-binary", ":all:", "--quiet", "--no-config"]
    arguments += ["--custom-compile-command", "make lock", "--output-file", str(output)]
    arguments += ["--group", "pyproject.toml:dev"]
    for path in _descriptions():
        name = re.search(r'^name = "(.+)"', path.read_text(), re.MULTILINE)
        arguments += ["--no-emit-package", name.group(1)] if name else []
        arguments.append(str(path.relative_to(ROOT)))
    return arguments


def clean(_rest: list[str]) -> int:
    """Remove what setting up and testing made. Data under .memepool is not ours to remove."""
    caches = (".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".import_linter_cache")
    for folder in (VENV, *map(ROOT.joinpath, caches)):
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def ensure_python() -> None:
    """Go on in a Python that fits: this one, or else the newest that fits on the PATH."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        name = f"python3.{minor}"
        found = shutil.which(name)
        # A shim of a version manager may be there and still run nothing.
        if found and subprocess.call([found, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            os.execv(found, [found, *sys.argv])
    has = ".".join(map(str, sys.version_info[:2]))
    message = (
        f"needs Python 3.{OLDEST[1]} to 3.{NEWEST[1]} and found only {has}: install one"
        " (Debian, Ubuntu: apt install python3 python3-venv)"
        " or say where it is: make PYTHON=/path/to/python3.12"
    )
    raise SetupError(message)


def ensure_environment() -> None:
    """Bring the virtual environment in line with the lock; does nothing when it is."""
    wanted = _fingerprint()
    if _stamp() == wanted:
        return
    with LOCK.open() as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # a second command waits for the first one's set-up
        if _stamp() == wanted:
            return
        made_with, _, _ = (_stamp() or "").partition(" ")
        if made_with != _python_version() or not (VENV_BIN / "python").exists():
            _make_venv()
        STAMP.unlink(missing_ok=True)
        print("memepool: installing the packages of requirements.lock ...", flush=True)
        _install()
        STAMP.write_text(wanted)


def _make_venv() -> None:
    needed = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    version = f"python3.{sys.version_info[1]}"
    if needed:
        message = (
            f"{sys.executable} lacks the module {needed[0]}: install it"
            f" (Debian, Ubuntu: apt install {version}-venv)"
        )
        raise SetupError(message)
    print(f"memepool: making {VENV.name} with {version}", flush=True)
    _call([sys.executable, "-m", "venv", "--clear", str(VENV)], "could not make .venv")


def _install() -> None:
    """First uv by pip, then all the rest by uv, which takes seconds.

    uv does not read pip's configuration. Where that is what leads to the packages, pip installs
    them: slower, and just the same bytes, since every one of them must have its locked hash.
    """
    python = str(VENV_BIN / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "-qq", "install"]
    pip += ["--require-hashes", "--no-deps", "--only-binary", ":all:"]
    hint = "could not install the packages: is the package registry reachable?"
    with tempfile.NamedTemporaryFile("w", suffix=".lock") as uv_alone:
        uv_alone.write(_locked("uv"))
        uv_alone.flush()
        _call([*pip, "-r", uv_alone.name], hint)
    uv = [str(VENV_BIN / "uv"), "--quiet", "--no-config", "pip"]
    sync = [*uv, "sync", "--python", python, "--require-hashes", "--only-binary", ":all:"]
    if subprocess.call([*sync, str(LOCK)], cwd=str(ROOT)) != 0:
        print("memepool: uv could not; installing with pip, which takes longer", flush=True)
        _call([*pip, "-r", str(LOCK)], hint)
    editable = [part for path in _descriptions() for part in ("--editable", str(path.parent))]
    members = [*uv, "install", "--python", python, "--offline", "--no-deps", *editable]
    _call(members, "could not install this repository's own packages")


def _locked(package: str) -> str:
    """The lock's entry for one package, with its hashes."""
    entry = re.search(
        rf"^{re.escape(package)}==.*(\n    --hash.*)+", LOCK.read_text(), re.MULTILINE
    )
    if entry is None:
        message = f"{LOCK.name} does not hold {package}"
        raise SetupError(message)
    return entry.group(0)


def _descriptions() -> list[Path]:
    return [path for pattern in DESCRIPTIONS for path in sorted(ROOT.glob(pattern))]


def _fingerprint() -> str:
    """The Python's version, and a digest of all else that the environment is made from."""
    digest = hashlib.sha256(str(ROOT).encode())
    for path in (LOCK, Path(__file__), *_descriptions()):
        digest.update(path.read_bytes())
    return f"{_python_version()} {digest.hexdigest()}"


def _python_version() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _stamp() -> str | None:
    try:
        return STAMP.read_text()
    except FileNotFoundError:
        return None


def _call(command: list[str], complaint: str) -> None:
    if subprocess.call(command, cwd=str(ROOT)) != 0:
        raise SetupError(complaint)


def _step(program: str, *arguments: str) -> int:
    """Run one of the environment's programs in the repository's root and give its exit code."""
    print(f"$ {program} {' '.join(arguments[:4])}{' ...' if arguments[4:] else ''}", flush=True)
    return subprocess.call([str(VENV_BIN / program), *arguments], cwd=str(ROOT))


def _replace_process(*arguments: str) -> int:
    """Become the environment's Python, so that signals reach the program itself."""
    python = str(VENV_BIN / "python")
    os.execv(python, [python, *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
