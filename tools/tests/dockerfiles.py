"""Reads Dockerfiles, and does on this machine what their build stages do."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.install_member import ROOT

ENVIRONMENT = "/opt/memepool"
STEP_TIMEOUT_S = 240


@dataclass(frozen=True)
class Stage:
    """One stage: what it starts from, and its instructions as (name, arguments)."""

    base: str
    name: str | None
    instructions: list[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        """The arguments of every instruction of that name."""
        return [arguments for each, arguments in self.instructions if each == name]


def stages_of(dockerfile: Path) -> list[Stage]:
    """The stages in order. Continued lines and heredocs are not used here, so not understood."""
    stages: list[Stage] = []
    for line in dockerfile.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        assert not line.endswith("\\"), line
        name, _, arguments = line.partition(" ")
        if name == "FROM":
            base, _, alias = arguments.partition(" AS ")
            stages.append(Stage(base, alias or None, []))
        else:
            stages[-1].instructions.append((name, arguments))
    return stages


def dockerfile_of(member: str) -> Path:
    """Where a member's Dockerfile lies."""
    folder = ROOT / member if member == "sandbox" else ROOT / "services" / member
    return folder / "Dockerfile"


def replay_build(member: str, folder: Path) -> list[str]:
    """Do the build stage's COPY and RUN below `folder`; gives the final stage's entry point."""
    build, final = stages_of(dockerfile_of(member))
    source = folder / "src"
    environment = str(folder / "environment")
    for name, arguments in build.instructions:
        if name == "COPY":
            *sources, target = arguments.split()
            for each in sources:
                _copy(ROOT / each, source / target, as_folder=target.endswith("/"))
        elif name == "RUN":
            words = [word.replace(ENVIRONMENT, environment) for word in json.loads(arguments)]
            assert words[0] == "python", words
            _run([sys.executable, *words[1:]], source)
    python, *rest = json.loads(final.all("ENTRYPOINT")[0])
    return [f"{environment}/bin/{python}", *rest]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a file of the repository from the builder; the last rule wins."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        parts = Path(path).parts
        heads = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        if pattern.startswith("**/"):
            hit = any(fnmatch.fnmatch(part, pattern[3:]) for part in parts)
        else:
            hit = any(fnmatch.fnmatch(head, pattern) for head in heads)
        if hit:
            verdict = not line.startswith("!")
    return verdict


def _copy(source: Path, target: Path, *, as_folder: bool) -> None:
    if source.is_file():
        assert not ignored(source.relative_to(ROOT).as_posix()), source
        target = target / source.name if as_folder else target
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return

    def skip(folder: str, names: list[str]) -> list[str]:
        relative = Path(folder).relative_to(ROOT)
        return [name for name in names if ignored((relative / name).as_posix())]

    shutil.copytree(source, target, ignore=skip)


def _run(command: list[str], folder: Path) -> None:
    # Byte code is for the image's first start; here it would only take time.
    environment = {k: v for k, v in os.environ.items() if not re.match("PYTHON|VIRTUAL_ENV", k)}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=STEP_TIMEOUT_S,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
