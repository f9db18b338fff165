"""The Poster: transfers of concurrent callers, posted in batches."""

from collections.abc import Sequence

from memepool_common.collector import Collector
from memepool_common.db import Database
from memepool_payments.domain.journal import NewTransfer, Posting, without_repetitions
from memepool_payments.store import transfers
from memepool_payments.store.transfers import Rules


class Poster:
    """Posts what callers hand in; an answer is given only after its commit.

    What arrives while a batch commits is the next batch. A caller that goes away cancels nothing:
    its key will get the stored answer.
    """

    def __init__(self, database: Database, rules: Rules) -> None:
        self.rules = rules
        self._database = database
        self._collector: Collector[NewTransfer, Posting] = Collector(self._post)

    async def post(self, transfer: NewTransfer) -> Posting:
        """Post one transfer.

        Raises:
            Problem: 503 `overloaded` when too many are waiting.
        """
        return await self._collector.submit(transfer)

    async def drain(self) -> None:
        """Wait until nothing is in flight."""
        await self._collector.drain()

    async def _post(self, batch: Sequence[NewTransfer]) -> Sequence[Posting | Exception]:
        postings: list[Posting] = []
        for part in without_repetitions(batch, lambda each: (each.sender_id, each.key)):
            async with self._database.statement() as session:
                postings += await transfers.post(session, part, self.rules)
        return postings
