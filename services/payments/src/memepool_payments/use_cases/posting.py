"""The Poster: journals of concurrent callers, posted in batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import insert

from memepool_common.collector import Collector
from memepool_common.db import Database
from memepool_common.events import NewEvent, outbox
from memepool_common.tables import audit_log
from memepool_payments.domain.journal import POSTED, NewJournal, Posting
from memepool_payments.store import ledger
from memepool_payments.store.ledger import Velocity


@dataclass(frozen=True, slots=True)
class Order:
    """A journal, and the events and audit lines to be written with it if it is posted now."""

    journal: NewJournal
    announce: Callable[[Posting], Sequence[NewEvent]]
    audit: Callable[[Posting], Sequence[dict[str, object]]]


class Poster:
    """Posts what callers hand in; an answer is given only after its commit.

    What arrives while a batch commits is the next batch. A caller that goes away cancels nothing:
    its key will get the stored answer.
    """

    def __init__(self, database: Database, velocity: Velocity | None = None) -> None:
        self._database = database
        self._velocity = velocity
        self._collector: Collector[Order, Posting] = Collector(self._post)

    async def post(self, order: Order) -> Posting:
        """Post one journal.

        Raises:
            Problem: 503 `overloaded` when too many are waiting.
        """
        return await self._collector.submit(order)

    async def drain(self) -> None:
        """Wait until nothing is in flight."""
        await self._collector.drain()

    async def _post(self, orders: Sequence[Order]) -> Sequence[Posting | Exception]:
        async with self._database.transaction() as session:
            journals = [order.journal for order in orders]
            postings = await ledger.post(session, journals, self._velocity)
            fresh = [
                (order, posting)
                for order, posting in zip(orders, postings, strict=True)
                if posting.outcome == POSTED and not posting.replayed
            ]
            events = [event for order, posting in fresh for event in order.announce(posting)]
            await outbox.append(session, events)
            lines = [line for order, posting in fresh for line in order.audit(posting)]
            if lines:
                await session.execute(insert(audit_log), lines)
        return postings
