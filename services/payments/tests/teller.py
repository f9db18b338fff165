"""A process that transfers at random, and notes what the bank has acknowledged.

`python -m services.payments.tests.teller <seed> <ledger> <stop file>`: one line of standard output
for each acknowledged key, written only after the answer; ends when the stop file exists.
"""

import asyncio
import contextlib
import os
import random
import sys
from pathlib import Path
from uuid import UUID

import psycopg
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from memepool_common.db import Database
from memepool_common.settings import DatabaseSettings
from memepool_payments.domain.journal import NewTransfer, request_hash
from memepool_payments.use_cases.posting import Poster
from services.payments.tests.books import NO_LIMITS

CALLERS = 12
RETRY_S = 0.1


async def main(seed: int, url: str, stop_file: Path) -> None:
    database = Database.connect(
        DatabaseSettings(url=SecretStr(url), app_role="payments_app", pool_size=3)
    )
    poster = Poster(database, NO_LIMITS)
    chance = random.Random(seed)
    people = await _people(database)

    def stopping() -> bool:
        return stop_file.exists()

    async def post(key: str) -> None:
        (sender, source), (recipient, target) = chance.sample(people, 2)
        amount = chance.randint(1, 40)
        fingerprint = request_hash(recipient, amount)
        wanted = NewTransfer(sender, recipient, source, target, amount, None, key, fingerprint)
        while True:
            with contextlib.suppress(psycopg.Error, OSError):
                posting = await poster.post(wanted)
                answer = f"{sender} {key} {posting.outcome} {posting.journal_id}\n"
                os.write(1, answer.encode())  # whole: several processes append to one file
                return
            if stopping():
                return
            await asyncio.sleep(RETRY_S)

    async def call(name: int) -> None:
        number = 0
        while not stopping():
            number += 1
            await post(f"{os.getpid()}-{name}-{number}")

    await asyncio.gather(*(call(name) for name in range(CALLERS)))
    await poster.drain()
    await database.close()


async def _people(database: Database) -> list[tuple[UUID, int]]:
    query = text("select owner_id, id from account where kind = 'user_available' order by id")
    while True:  # the first death may come before this process has begun
        with contextlib.suppress(DBAPIError, OSError):
            async with database.read() as session:
                return [(row[0], row[1]) for row in await session.execute(query)]
        await asyncio.sleep(RETRY_S)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
