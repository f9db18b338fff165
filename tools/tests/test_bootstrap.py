import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import memepool
from tools.memepool import ROOT


def make(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_make_hands_the_options_of_its_command_line_on_and_quotes_them() -> None:
    shown = make("-n", "run", "PORT=9000", "BLOCK_SECONDS=5", "PLAYERS=0", "DATA=my data's")
    expected = "run --port '9000' --block-seconds '5' --players '0' --data 'my data'\\''s'"
    assert " ".join(shown.split()).endswith(expected)


def test_a_port_in_the_environment_is_not_ours() -> None:
    assert "--port" not in make("-n", "run", PORT="5000")


def test_help_names_every_command() -> None:
    shown = make("help")
    for command in ("setup", "run", "demo", "test", "lint", "types", "contracts", "lock", "clean"):
        assert f"make {command} " in shown


def test_the_command_can_be_read_by_an_old_python_so_that_it_can_complain() -> None:
    source = Path(memepool.__file__).read_text()
    ast.parse(source, feature_version=(3, 7))


def test_an_unfit_python_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")  # as a version manager leaves them
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    with pytest.raises(memepool.SetupError, match=r"needs Python 3\.11 to 3\.13 and found only 3"):
        memepool.ensure_python()


def test_a_missing_venv_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_ensurepip(name: str) -> object | None:
        return None if name == "ensurepip" else object()

    monkeypatch.setattr(importlib.util, "find_spec", no_ensurepip)
    with pytest.raises(memepool.SetupError, match=r"ensurepip.*apt install python3\.\d+-venv"):
        memepool._make_venv()


def test_nothing_is_run_while_the_environment_is_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = tmp_path / "stamp"
    stamp.write_text(memepool._fingerprint())
    monkeypatch.setattr(memepool, "STAMP", stamp)
    monkeypatch.setattr(memepool, "_call", pytest.fail)
    memepool.ensure_environment()


def test_a_set_up_that_fails_leaves_no_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable() -> None:
        raise memepool.SetupError("could not install the packages")

    stamp = tmp_path / "stamp"
    stamp.write_text("of an older lock")
    monkeypatch.setattr(memepool, "STAMP", stamp)
    monkeypatch.setattr(memepool, "_make_venv", lambda: None)
    monkeypatch.setattr(memepool, "_install", unreachable)
    with pytest.raises(memepool.SetupError):
        memepool.ensure_environment()
    assert not stamp.exists()


def test_an_error_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise memepool.SetupError("says what to do")

    monkeypatch.setattr(memepool, "ensure_python", refuse)
    assert memepool.main(["run"]) == 2
    assert capsys.readouterr().err == "memepool: says what to do\n"
