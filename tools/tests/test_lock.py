import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.memepool import LOCK, NEWEST, OLDEST, ROOT, compile_arguments

UV = Path(sys.executable).with_name("uv")
VERSIONS = [f"3.{minor}" for minor in range(OLDEST[1], NEWEST[1] + 1)]
PLATFORMS = ["x86_64-manylinux_2_28", "aarch64-manylinux_2_28"]


def run_uv(*arguments: str) -> None:
    done = subprocess.run(
        [str(UV), *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr


def pins(path: Path) -> list[str]:
    return re.findall(r"^\S+==[^\\]+", path.read_text(), re.MULTILINE)


def test_the_lock_holds_just_what_the_members_and_tools_ask_for(tmp_path: Path) -> None:
    """Fails when a dependency changed without `make lock`; newer releases change nothing."""
    again = tmp_path / "requirements.lock"
    shutil.copyfile(LOCK, again)
    run_uv(*compile_arguments(again))
    assert pins(again) == pins(LOCK)


def test_every_package_in_the_lock_has_hashes_and_no_address() -> None:
    text = LOCK.read_text()
    assert len(pins(LOCK)) > 50
    hashed = re.findall(r"^\S+==.* \\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(hashed) == len(pins(LOCK))
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_package_has_a_wheel(platform: str, version: str, tmp_path: Path) -> None:
    options = ["--dry-run", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
    target = ["--target", str(tmp_path), "--python-platform", platform, "--python-version", version]
    run_uv("--no-config", "pip", "install", *options, *target, "-r", str(LOCK))
