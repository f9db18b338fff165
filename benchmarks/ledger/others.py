"""Callers that post transfers from a process of their own, as an API does while a worker pays.

`python -m benchmarks.ledger.others` gets one line of JSON with the database, people and the number
of callers; from then on they post until standard input ends, and then it writes when each transfer
ended on the monotonic clock, which all processes share, and how long it took, in seconds.
"""

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import AsyncIterator
from typing import Self
from uuid import UUID

import orjson
import uvloop

from benchmarks.ledger import loads
from benchmarks.ledger.loads import Latency, People
from memepool_common.db import Database
from memepool_common.settings import DatabaseSettings

REPORT_BYTES_MAX = 2**28


class Others:
    """Such a process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._posted: list[tuple[float, float]] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def posting(cls, database: Database, people: People, callers: int) -> AsyncIterator[Self]:
        """Post inside the block; afterwards it can be told how that went."""
        command = (sys.executable, "-m", "benchmarks.ledger.others")
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, limit=REPORT_BYTES_MAX
        )
        assert process.stdin is not None
        assert process.stdout is not None
        settings = database.settings
        asked = {
            "database": {"url": settings.url.get_secret_value(), "app_role": settings.app_role},
            "users": people.users,
            "accounts": people.accounts,
            "callers": callers,
        }
        process.stdin.write(orjson.dumps(asked) + b"\n")
        others = cls(process)
        try:
            assert await process.stdout.readline() == b"posting\n"
            yield others
        finally:
            process.stdin.close()
            said, _ = await asyncio.gather(process.stdout.read(), process.wait())
            others._posted = [(end, took) for end, took in orjson.loads(said)]

    def between(self, began: float, ended: float) -> Latency:
        """Of the transfers that were answered in this time."""
        return Latency.of([took for end, took in self._posted if began <= end < ended])


async def _main() -> None:
    asked = orjson.loads(sys.stdin.buffer.readline())
    database = Database.connect(DatabaseSettings.model_validate(asked["database"]))
    people = People([UUID(user) for user in asked["users"]], asked["accounts"])
    gc.freeze()  # as an API does after its start
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    sys.stdout.write("posting\n")
    sys.stdout.flush()
    posted: list[tuple[float, float]] = []

    def note(began: float) -> None:
        now = time.monotonic()
        posted.append((now, now - began))

    post = loads.whole_transfers(database)
    await loads.post_while(lambda: not ended.is_set(), note, post, people, callers=asked["callers"])
    loop.remove_reader(sys.stdin.fileno())
    sys.stdout.buffer.write(orjson.dumps(posted))
    await database.close()


if __name__ == "__main__":
    uvloop.run(_main())
