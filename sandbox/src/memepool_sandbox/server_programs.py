"""Installs a server's program where that can be done without asking: on Debian, as root."""

import os
import shutil
import subprocess
from pathlib import Path

POLICY = Path("/usr/sbin/policy-rc.d")
INSTALL_TIMEOUT_S = 600


class MissingServerError(RuntimeError):
    """A server that is needed is not there; the message says what would help."""


def require_program(program: str, package: str, variable: str) -> str:
    """The path of an installed program; installs Debian's package of it if there is none.

    Raises:
        MissingServerError: it is not there, and cannot be installed without asking.
    """
    found = shutil.which(program)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"memepool: the tests need {program}: installing Debian's {package}", flush=True)
        _install(package)
        found = shutil.which(program)
    if found is None:
        raise MissingServerError(
            f"the tests need {program}: install it (Debian, Ubuntu: apt install {package}),"
            f" or give a test server's address in {variable}"
        )
    return found


def _install(package: str) -> None:
    """Install, and have no system service started by it."""
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", package]):
            done = subprocess.run(  # noqa: S603 - a fixed command
                ["apt-get", "-qq", *arguments],  # noqa: S607 - the system's own
                env=environment,
                check=False,
                capture_output=True,
                text=True,
                timeout=INSTALL_TIMEOUT_S,
            )
            if done.returncode != 0:
                raise MissingServerError(f"apt-get {arguments[0]}: {done.stderr[-1000:]}")
    finally:
        if ours:
            POLICY.unlink()
