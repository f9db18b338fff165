"""Our own rules for the Dockerfiles; `test_deployment_files` has the linter's."""

import json
import re
from pathlib import Path

import pytest

from tools.install_member import ROOT, folder_of, own_members
from tools.tests.dockerfiles import ENVIRONMENT, dockerfile_of, ignored, stages_of

BASE = "python:3.13-slim-bookworm"
UID = 10001
SERVICES = ["auth", "content", "gateway", "payments", "rounds"]
MEMBERS = [*SERVICES, "sandbox"]
KEEPS_FILES = {"content", "sandbox"}


def test_every_service_has_an_image() -> None:
    assert {path.parent.name for path in (ROOT / "services").glob("*/pyproject.toml")} == {
        *SERVICES
    }
    assert {path.parent.name for path in ROOT.glob("**/Dockerfile")} == {*MEMBERS}


@pytest.mark.parametrize("member", MEMBERS)
def test_two_stages_on_the_same_pinned_slim_base(member: str) -> None:
    build, final = stages_of(dockerfile_of(member))
    assert (build.base, build.name) == (BASE, "build")
    assert (final.base, final.name) == (BASE, None)
    assert re.fullmatch(r"python:3\.1[1-3]-slim-\w+", BASE)


@pytest.mark.parametrize("member", MEMBERS)
def test_the_build_installs_the_member_alone(member: str) -> None:
    build, _ = stages_of(dockerfile_of(member))
    steps = [json.loads(arguments) for arguments in build.all("RUN")]
    assert steps == [
        ["python", "tools/install_member.py", step, member, ENVIRONMENT]
        for step in ("dependencies", "packages")
    ]
    folders = [folder_of(name).relative_to(ROOT).as_posix() for name in own_members(member)]
    wanted = {f"{folder}/pyproject.toml {folder}/" for folder in folders}
    wanted |= {f"{folder}/src {folder}/src" for folder in folders}
    wanted |= {"requirements.lock ./", "tools/install_member.py tools/"}
    assert set(build.all("COPY")) == wanted
    order = [text for name, text in build.instructions if name in {"COPY", "RUN"}]
    dependencies = order.index(json.dumps(steps[0]))
    assert not any(text.endswith("/src") for text in order[:dependencies])
    assert all(text.endswith("/src") for text in order[dependencies + 1 : -1])


@pytest.mark.parametrize("member", MEMBERS)
def test_the_image_holds_the_environment_and_no_more_rights_than_it_needs(member: str) -> None:
    _, final = stages_of(dockerfile_of(member))
    assert final.all("COPY") == [f"--from=build {ENVIRONMENT} {ENVIRONMENT}"]
    made = ["install", "-d", "-m", "0700", "-o", str(UID), "-g", str(UID), "/var/lib/memepool"]
    assert final.all("RUN") == ([json.dumps(made)] if member in KEEPS_FILES else [])
    names = [name for name, _ in final.instructions]
    assert final.all("USER") == [f"{UID}:{UID}"]
    assert names.index("USER") > max(names.index(each) for each in names if each in {"RUN", "COPY"})
    assert "HEALTHCHECK" not in names
    assert not {"ADD", "ARG", "SHELL", "VOLUME"} & set(names)
    assert json.loads(final.all("ENTRYPOINT")[0]) == ["python", "-m", f"memepool_{member}"]
    assert len(json.loads(final.all("CMD")[0])) == 1
    assert "PYTHONSAFEPATH=1" in final.all("ENV")[0]


@pytest.mark.parametrize("member", MEMBERS)
def test_no_secret_and_no_address_in_it(member: str) -> None:
    text = dockerfile_of(member).read_text()
    assert "://" not in text
    assert not re.search(r"password|secret|token|index|/bin/sh|curl|apt", text, re.IGNORECASE)


def test_the_builder_is_sent_sources_only() -> None:
    sent = {"requirements.lock", "tools/install_member.py", "services/auth/pyproject.toml"}
    sent |= {"libs/chain/src/memepool_chain/tx.py", "sandbox/src/memepool_sandbox/world.py"}
    kept = {".git/config", ".env", "deploy/secrets.env", ".memepool/secrets.json", "README.md"}
    kept |= {"services/auth/tests/conftest.py", ".venv/bin/python", "tools/memepool.py"}
    assert not [path for path in sent if ignored(path)]
    assert not [path for path in kept if not ignored(path)]
    assert Path(ROOT / ".dockerignore").read_text().count("!") == 5
