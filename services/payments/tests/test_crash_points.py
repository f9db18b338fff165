"""Killed at every commit, before it and after it, and started again: as if nothing had happened."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memepool_common.db import Database
from memepool_common.settings import DatabaseSettings
from services.payments.tests.books import Books
from services.payments.tests.crashing import EXPECTED

ROOT = Path(__file__).parents[3]
SIGKILLED = -9
EVENTS = {
    "memepool.payments.transfer.posted.v1": 2,
    "memepool.payments.stake.held.v1": 2,
    "memepool.payments.stake.refunded.v1": 2,
    "memepool.payments.rewards.distributed.v1": 1,
}
MUST_BE_NAMED = {
    "posting._post",
    "signing.require_signature",
    "ballot.place",
    "stakes.refund_withdrawn",
    "distribution.step",
    "holds.expire_holds",
    "sealing.seal",
}
LIVES_MAX = 200
Live = Callable[[list[str]], tuple[int, str]]


@pytest.fixture
def books(database_settings_for: Callable[..., DatabaseSettings]) -> Books:
    """A fresh ledger."""
    return Books(Database.connect(database_settings_for("payments")))


@pytest.fixture
def live(books: Books) -> Iterator[Live]:
    """Lives the ledger's life once; says how that process ended, and at which point."""
    known = books.database.settings
    database = {"url": known.url.get_secret_value(), "app_role": known.app_role}
    command = [sys.executable, "-m", "services.payments.tests.crashing"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def run(died_at: list[str]) -> tuple[int, str]:
            stdin.write(json.dumps({"database": database, "died_at": died_at}) + "\n")
            stdin.flush()
            answer = json.loads(stdout.readline())
            return answer["status"], answer["point"]

        yield run
        stdin.close()


async def test_whatever_point_it_dies_at_everything_is_done_once(books: Books, live: Live) -> None:
    died_at: list[str] = []
    for _ in range(LIVES_MAX):
        status, point = live(died_at)
        await books.check()
        if status == 0:
            break
        assert status == SIGKILLED, point
        died_at.append(point)
    assert {point.split()[0] for point in died_at} >= MUST_BE_NAMED
    assert live(died_at)[0] == 0
    await books.check()
    for user, amount in EXPECTED.items():
        assert await books.available(user) == amount
    counted = "select event_type, count(*) from outbox group by event_type"
    assert dict(await books.rows(counted)) == EVENTS
    audited = "select count(*) from audit_log where action = 'payments.transfer.posted'"
    assert await books.scalar(audited) == 4
    await books.database.close()
