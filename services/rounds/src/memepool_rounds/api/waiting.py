"""Waiting for votes to be decided: one poller per process over all that are waited for."""

import asyncio
from uuid import UUID

import structlog

from memepool_common.db import Database
from memepool_common.events.errors import is_infrastructure
from memepool_rounds.store import votes
from memepool_rounds.store.votes import StoredVote

log = structlog.get_logger(__name__)


class VoteWaiter:
    """Polls only while somebody waits."""

    def __init__(self, database: Database, poll_interval_s: float) -> None:
        self._database = database
        self._poll_interval_s = poll_interval_s
        self._waiting: dict[UUID, set[asyncio.Future[StoredVote]]] = {}
        self._poller: asyncio.Task[None] | None = None

    async def wait(self, vote_id: UUID, timeout_s: float) -> StoredVote | None:
        """The vote once it is decided; None if that takes longer."""
        future: asyncio.Future[StoredVote] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(vote_id, set()).add(future)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="vote-waiter")
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            return None
        finally:
            futures = self._waiting.get(vote_id, set())
            futures.discard(future)
            if not futures:
                self._waiting.pop(vote_id, None)

    async def close(self) -> None:
        """Stop polling."""
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)

    async def _poll(self) -> None:
        while self._waiting:
            try:
                async with self._database.read() as session:
                    decided = await votes.decided(session, list(self._waiting))
            except Exception as error:
                if not is_infrastructure(error):
                    raise
                log.warning("vote_waiter_paused", error=repr(error))
                decided = []
            for vote in decided:
                for future in self._waiting.pop(vote.id, set()):
                    if not future.done():
                        future.set_result(vote)
            await asyncio.sleep(self._poll_interval_s)
