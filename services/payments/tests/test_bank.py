"""The bank test: processes transfer at random while PostgreSQL is killed again and again.

What was acknowledged exists once, with the answer that was given; the total is the same in every
snapshot; every invariant holds.
"""

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from memepool_common.db import Database
from memepool_common.migrations import migrate
from memepool_common.settings import DatabaseSettings
from memepool_payments.store import invariants
from memepool_payments.use_cases import sealing
from memepool_sandbox.postgres import PostgresServer, provision, start_postgres
from services.payments.tests.books import Books

TELLERS = 2
USERS = 12
MONEY = 200
TOTAL = text("select sum(posted), (select sum(amount) from entry) from balance")


def _database(server: PostgresServer) -> Database:
    url = server.url("payments", "payments_app")
    settings = DatabaseSettings(url=SecretStr(url), app_role="payments_app", pool_size=3)
    return Database.connect(settings)


def _answers(acknowledged: Path) -> list[list[str]]:
    return [line.split() for line in acknowledged.read_text().splitlines()]


async def _watch(server: PostgresServer, acknowledged: Path, *, answers: int) -> None:
    """Read totals until so many more answers were given."""
    database = _database(server)
    before = len(_answers(acknowledged))
    try:
        async with asyncio.timeout(60):
            while len(_answers(acknowledged)) < before + answers:
                async with database.read() as session:
                    assert tuple((await session.execute(TOTAL)).one()) == (USERS * MONEY, 0)
                await asyncio.sleep(0.05)
    finally:
        await database.close()


async def _bank(folder: Path, *, kills: int, answers: int) -> None:
    home, acknowledged, stop_file = folder / "pg", folder / "acknowledged", folder / "stop"
    tellers: list[asyncio.subprocess.Process] = []
    try:
        for kill in range(kills + 1):
            with start_postgres(home) as server:
                if not tellers:
                    provision(server, "payments")
                    owner_url = server.url("payments", "payments_owner")
                    migrate("memepool_payments", owner_url, "payments_app")
                    database = _database(server)
                    await Books(database).funded([MONEY] * USERS)
                    await database.close()
                    url = server.url("payments", "payments_app")
                    with acknowledged.open("ab") as notes:
                        for seed in range(TELLERS):
                            module = ("-m", "services.payments.tests.teller", str(seed), url)
                            tellers.append(
                                await asyncio.create_subprocess_exec(
                                    sys.executable, *module, str(stop_file), stdout=notes
                                )
                            )
                await _watch(server, acknowledged, answers=answers)
                if kill < kills:
                    pid = int((home / "cluster/postmaster.pid").read_text().split()[0])
                    os.kill(pid, signal.SIGKILL)
                    continue
                stop_file.touch()
                assert [await teller.wait() for teller in tellers] == [0] * TELLERS
                await _settle(server, acknowledged)
    finally:
        for teller in tellers:
            if teller.returncode is None:
                teller.kill()
                await teller.wait()


async def _settle(server: PostgresServer, acknowledged: Path) -> None:
    said = _answers(acknowledged)
    database = _database(server)
    async with database.read() as session:
        assert await invariants.broken(session) == {}
        query = text("select scope, key, outcome, id from journal where kind = 'transfer'")
        kept = {(row[0], row[1]): (row[2], row[3]) for row in await session.execute(query)}
    for sender, key, outcome, journal_id in said:
        assert kept[f"user:{sender}", key] == (outcome, int(journal_id))
    outcomes = Counter(outcome for _, _, outcome, _ in said)
    assert set(outcomes) <= {"posted", "insufficient_funds"}
    assert outcomes["posted"] > 0
    while await sealing.seal(database):
        pass
    assert (await sealing.verify(database)).problem is None
    await database.close()


async def test_what_was_acknowledged_survives_the_death_of_the_database(tmp_path: Path) -> None:
    await _bank(tmp_path, kills=1, answers=150)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_many_deaths_of_the_database(tmp_path: Path) -> None:
    await _bank(tmp_path, kills=12, answers=500)
