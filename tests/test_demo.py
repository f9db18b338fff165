"""`make demo` proves that every satoshi is accounted for, and says so when one is not."""

import subprocess
import sys
from typing import Any

import pytest

from memepool_sandbox import demo
from memepool_sandbox.launcher import run
from memepool_sandbox.players.http import Api

pytestmark = pytest.mark.timeout(180)
DEMO_TIMEOUT_S = 150.0
POT_CLAIM = "pot = fee + rewards + carry-over"
OTHER_CLAIMS = (
    "ranked stakes = counted stakes",
    "each balance = deposits - stakes + rewards",
    "all ledger entries sum to zero",
    "each balance is the sum of its entries",
    "coins on chain = owed + pending deposits + platform's own",
)


def test_the_command_accounts_for_everything() -> None:
    command = [sys.executable, "-m", "memepool_sandbox", "demo"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=DEMO_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for claim in (POT_CLAIM, *OTHER_CLAIMS):
        assert f"  ok    {claim}: " in done.stdout
    for words in ("rank  meme of", "rewards", "fee", "carry-over", "Every satoshi is accounted"):
        assert words in done.stdout
    assert "WRONG" not in done.stdout


def test_one_satoshi_off_and_it_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = Api.call

    async def lying(self: Api, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The API, whose results show one satoshi more of a fee."""
        answer = await call(self, method, path, **options)
        return answer | {"fee": answer["fee"] + 1} if path.endswith("/results") else answer

    monkeypatch.setattr(Api, "call", lying)
    monkeypatch.setattr(demo, "CREATORS", 1)
    monkeypatch.setattr(demo, "VOTERS", 2)
    assert run.demo() == run.EXIT_WRONG
    said = capsys.readouterr().out
    assert f"  WRONG {POT_CLAIM}: " in said
    assert "SATOSHIS ARE MISSING" in said
    for claim in OTHER_CLAIMS:
        assert f"  ok    {claim}: " in said
