"""Events of rounds and auth, as payments gets them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from memepool_common.events import Event
from memepool_common.ids import uuid7
from memepool_payments import consumers
from services.payments.tests.books import Books

ROUND = "800000"


def event(event_type: str, data: dict[str, Any]) -> Event:
    return Event(
        id=uuid7(),
        type=event_type,
        source="/rounds",
        subject=str(data.get("roundId", "")),
        time=datetime.now(UTC),
        version=1,
        audience="internal",
        data=data,
        traceparent=None,
    )


class Ballot:
    """Votes as rounds would announce them."""

    def __init__(self, books: Books, round_id: str = ROUND) -> None:
        self.books = books
        self.round_id = round_id

    def columns(self, votes: Sequence[tuple[UUID, UUID, UUID, int]]) -> dict[str, Any]:
        return {
            "roundId": self.round_id,
            "voteId": [str(vote) for vote, *_ in votes],
            "voterId": [str(voter) for _, voter, *_ in votes],
            "contentId": [str(content) for _, _, content, _ in votes],
            "amount": [amount for *_, amount in votes],
        }

    async def place(self, *votes: tuple[UUID, UUID, UUID, int]) -> None:
        async with self.books.database.transaction() as session:
            placed = event(consumers.VOTE_PLACED, self.columns(votes))
            await consumers.on_votes_placed(session, [placed])

    async def reject(self, *votes: tuple[UUID, UUID, UUID, int]) -> None:
        async with self.books.database.transaction() as session:
            rejected = event(consumers.VOTE_REJECTED, self.columns(votes))
            await consumers.on_votes_rejected(session, [rejected])

    async def withdraw(self, content: UUID) -> None:
        async with self.books.database.transaction() as session:
            data = {"roundId": self.round_id, "contentId": str(content)}
            withdrawn = event(consumers.MEME_WITHDRAWN, data)
            await consumers.on_meme_withdrawn(session, [withdrawn])

    async def states(self) -> dict[UUID, tuple[str, str | None]]:
        rows = await self.books.rows("select vote_id, state, reason from stake")
        return {vote: (state, reason) for vote, state, reason in rows}

    async def announced(self, event_type: str) -> list[dict[str, Any]]:
        return await self.books.announced(event_type)
