"""Deployment files under the linters and schemas of their formats, offline."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.deployment_secrets import ROOT

KUBERNETES = "1.34"
BIN = Path(sys.executable).parent
DOCKERFILES = sorted(
    path for group in ("services/*", "sandbox") for path in ROOT.glob(f"{group}/Dockerfile")
)


def judge(tool: str, *arguments: object) -> str:
    """What a tool says; it must have nothing against it."""
    command = [str(BIN / tool), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def test_compose_file_follows_the_compose_specification() -> None:
    said = judge(
        "check-jsonschema", "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml"
    )
    assert "ok" in said


def test_manifests_follow_the_schemas_of_kubernetes() -> None:
    rendered = ROOT / "deploy/k8s/rendered/dev.yaml"
    said = judge("kubernetes-validate", "--strict", "-k", KUBERNETES, rendered)
    documents = rendered.read_text().count("\nkind: ")
    assert said.count("passed for resource") == documents


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_dockerfiles_pass_their_linter(dockerfile: Path) -> None:
    judge("hadolint", "--failure-threshold", "info", dockerfile)
