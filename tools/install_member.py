"""Makes an environment that holds one member of this repository and what it needs, nothing else.

    python tools/install_member.py dependencies auth /opt/memepool
    python tools/install_member.py packages auth /opt/memepool

These are the steps of every image, and of the test that each service can live alone. The first
needs only requirements.lock and the members' descriptions, so that an image's layer of packages
stays as it is while code changes. All packages are wheels with the lock's hashes; the members are
built by uv itself. Needs the standard library only.
"""

import argparse
import re
import subprocess
import sys
import tomllib
import venv
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
OWN_PREFIX = "memepool-"
MEMBER_FOLDERS = ("libs", "services", "")
UV_FOLDER = ".uv"
"""Beneath the environment; removed when all is installed."""


def main(arguments: list[str]) -> int:
    """Do one step."""
    parser = argparse.ArgumentParser(prog="install_member")
    parser.add_argument("step", choices=("dependencies", "packages"))
    parser.add_argument("member", help="say auth, or sandbox")
    parser.add_argument("environment", type=Path, help="where to make it")
    told = parser.parse_args(arguments)
    step = install_dependencies if told.step == "dependencies" else install_packages
    step(told.member, told.environment.absolute())
    return 0


def install_dependencies(member: str, environment: Path) -> None:
    """A new environment with the packages of others. It has no pip: nobody installs there again."""
    venv.create(environment, clear=True)
    entries = locked_entries()
    uv_folder = environment / UV_FOLDER
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-q"]
    hashed = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", "/dev/stdin"]
    _run([*pip, "install", "--target", str(uv_folder), *hashed], entries["uv"])
    lock = "".join(entries[name] for name in needed(own_members(member), entries))
    options = ["--quiet", "--no-config", "pip", "install", "--python", _python(environment)]
    try:
        _run([_uv(environment), *options, *hashed], lock)
    except subprocess.CalledProcessError:  # pip's own configuration may be what leads to packages
        print("install_member: uv could not; installing with pip, which takes longer", flush=True)
        _run([*pip, "--python", _python(environment), "install", *hashed], lock)


def install_packages(member: str, environment: Path) -> None:
    """The member and the libraries of ours that it names; then uv is not needed any more."""
    folders = [str(folder_of(name)) for name in own_members(member)]
    options = ["--quiet", "--no-config", "pip", "install", "--python", _python(environment)]
    _run([_uv(environment), *options, "--offline", "--no-deps", "--no-sources", *folders])
    _run(["rm", "-rf", str(environment / UV_FOLDER)])


def own_members(member: str) -> list[str]:
    """The member and the members of this repository that it asks for, sorted."""
    found: set[str] = set()
    waiting = [OWN_PREFIX + member]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        described = tomllib.loads((folder_of(name) / "pyproject.toml").read_text())
        asked: list[str] = described["project"]["dependencies"]
        waiting += [each for each in asked if each.startswith(OWN_PREFIX)]
    return sorted(found)


def folder_of(name: str) -> Path:
    """Where a member's description lies."""
    short = name.removeprefix(OWN_PREFIX)
    folders = [ROOT / parent / short for parent in MEMBER_FOLDERS]
    return next(folder for folder in folders if (folder / "pyproject.toml").exists())


def locked_entries() -> dict[str, str]:
    """The lock's text by package: its hashes and who asked for it, once for each of its versions.

    A package has several where no version serves all Pythons; markers choose.
    """
    entries: dict[str, str] = defaultdict(str)
    for part in re.split(r"^(?=\S+==)", LOCK.read_text(), flags=re.MULTILINE)[1:]:
        entries[part.partition("==")[0]] += part
    return entries


def needed(members: list[str], entries: dict[str, str]) -> list[str]:
    """The packages that some members need, directly or not, by the lock's notes of who asks."""
    asks: dict[str, set[str]] = defaultdict(set)
    for name, entry in entries.items():
        for line in entry.splitlines():
            asker = re.match(r"    #   (?:via )?(\S+)|    # via (\S+)", line)
            if asker:
                asks[asker[1] or asker[2]].add(name)
    found: set[str] = set()
    waiting = list(members)
    while waiting:
        fresh = asks[waiting.pop()] - found
        found |= fresh
        waiting += fresh
    return sorted(found)


def _python(environment: Path) -> str:
    return str(environment / "bin/python")


def _uv(environment: Path) -> str:
    return str(environment / UV_FOLDER / "bin/uv")


def _run(command: list[str], text: str | None = None) -> None:
    subprocess.run(command, check=True, input=text, text=True, cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
