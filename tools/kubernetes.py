"""Renders deploy/k8s into deploy/k8s/rendered/, which is checked in.

So a change is reviewed as what the cluster will get, and tests judge that on machines without
kubectl. The first line holds a digest of what it was rendered from; a test fails when it is stale.
"""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "deploy/k8s"
OVERLAY = SOURCES / "overlays/dev"
RENDERED = SOURCES / "rendered/dev.yaml"
OLDEST = (1, 27)
"""The first kubectl whose Kustomize knows all that is used here."""


def source_digest() -> str:
    """A digest of everything that is rendered."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*.yaml")):
        if path.parent != RENDERED.parent:
            digest.update(f"{path.relative_to(SOURCES)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def header() -> str:
    """The first line of a rendered file."""
    return f"# Rendered by `make kubernetes` from sources of sha256 {source_digest()}\n"


def main() -> int:
    """Render with kubectl; gives the exit code."""
    try:
        version = _output("kubectl", "version", "--client")
    except FileNotFoundError:
        print("memepool: needs kubectl on the PATH", file=sys.stderr)
        return 2
    found = re.search(r"Client Version: v(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < OLDEST:
        print(f"memepool: needs kubectl {OLDEST[0]}.{OLDEST[1]} or later", file=sys.stderr)
        return 2
    text = header() + _output("kubectl", "kustomize", str(OVERLAY))
    RENDERED.parent.mkdir(exist_ok=True)
    RENDERED.write_text(text)
    print(f"kubernetes: {text.count(chr(10))} lines in {RENDERED.relative_to(ROOT)}")
    return 0


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
