"""Two transactions, each stopped before any of its statements: every order they can meet in."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import text

from memepool_common.db import Database

ALL = 1_000
POLL_S = 0.002
TIMEOUT_S = 60.0
_BLOCKED = text("select wait_event_type = 'Lock' from pg_stat_activity where pid = :pid")

Act = Callable[[Any], Awaitable[object]]


class Stepped:
    """A session that waits before each statement until that one is allowed."""

    def __init__(self, session: Any, player: "Player") -> None:
        self._session = session
        self._player = player

    async def execute(self, *arguments: Any) -> Any:
        await self._player.gate()
        return await self._session.execute(*arguments)

    async def exec_driver_sql(self, *arguments: Any) -> Any:
        await self._player.gate()
        return await self._session.exec_driver_sql(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class Player:
    """One of the two; `error` is what its act raised."""

    def __init__(self, database: Database, act: Act) -> None:
        self._database = database
        self._act = act
        self._pid = 0
        self._go = asyncio.Event()
        self._allowed = 0
        self.statements = 0
        self.error: Exception | None = None
        self._task: asyncio.Task[None] | None = None

    def allow(self, statements: int) -> None:
        """Let it run until it has done so many; the last stop is before its commit."""
        self._allowed = statements
        self._go.set()
        self._task = self._task or asyncio.create_task(self._run())

    async def gate(self) -> None:
        """Wait for the turn of the next statement."""
        while self.statements >= self._allowed:
            self._go.clear()
            await self._go.wait()
        self.statements += 1

    async def settled(self) -> None:
        """Return once it waits for us, or for the other's lock, or has ended."""
        assert self._task is not None
        async with asyncio.timeout(TIMEOUT_S):
            while not self._task.done() and self._go.is_set() and not await self._blocked():
                await asyncio.sleep(POLL_S)

    async def ended(self) -> None:
        """Wait for its end; raises what was not the act's own refusal."""
        assert self._task is not None
        async with asyncio.timeout(TIMEOUT_S):
            await self._task

    async def _blocked(self) -> bool:
        async with self._database.read() as session:
            return bool((await session.execute(_BLOCKED, {"pid": self._pid})).scalar_one_or_none())

    async def _run(self) -> None:
        try:
            async with self._database.transaction() as session:
                query = "select pg_backend_pid()"
                self._pid = (await session.exec_driver_sql(query)).scalar_one()
                await self._act(Stepped(session, self))
                await self.gate()
        except Exception as error:  # noqa: BLE001 - the scene says which are right
            self.error = error


async def meet(database: Database, one: Act, other: Act, stop_one: int, stop_other: int) -> Any:
    """Stop one, then the other, then let one end, then the other; returns what they raised."""
    first, second = Player(database, one), Player(database, other)
    first.allow(stop_one)
    await first.settled()
    second.allow(stop_other)
    await second.settled()
    first.allow(ALL)
    await first.settled()
    second.allow(ALL)
    await first.ended()
    await second.ended()
    return first.error, second.error


async def count_statements(database: Database, act: Act) -> int:
    """How many stops an act has, its commit among them."""
    player = Player(database, act)
    player.allow(ALL)
    await player.ended()
    if player.error is not None:
        raise player.error
    return player.statements
