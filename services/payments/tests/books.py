"""The ledger seen from outside: funded users, questions, and the check of every invariant."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import text

from memepool_common.db import Database, Session
from memepool_common.ids import uuid7
from memepool_payments.domain.journal import Movement, NewJournal, NewTransfer, request_hash
from memepool_payments.events import EVENTS
from memepool_payments.store import invariants, ledger
from memepool_payments.store.transfers import Rules

NO_LIMITS = Rules(fee=0, sent_max=21 * 10**14, sends_max=2**31 - 1)


@dataclass
class Books:
    """The ledger under test, seen from outside."""

    database: Database
    users: list[UUID] = field(default_factory=list)

    async def user(self, amount: int = 0) -> UUID:
        """A user with that much money, as if deposited."""
        return (await self.funded([amount]))[0]

    async def funded(self, amounts: Sequence[int]) -> list[UUID]:
        """Users with these balances, backed by free coins."""
        users = [uuid7() for _ in amounts]
        async with self.database.transaction() as session:
            accounts = await ledger.open_accounts(session, users)
            assets = await ledger.platform_account(session, ledger.CHAIN_ASSETS)
            given = [(user, amount) for user, amount in zip(users, amounts, strict=True) if amount]
            await ledger.post(
                session,
                [
                    NewJournal(
                        "test",
                        f"fund:{user}",
                        request_hash(amount),
                        "deposit",
                        [Movement(assets, accounts[user], amount)],
                        recipient_id=user,
                    )
                    for user, amount in given
                ],
            )
            coin = text(
                "insert into coin (txid, vout, amount, key_index, state)"
                " values (:txid, 0, :amount, 0, 'free')"
            )
            for user, amount in given:
                await session.execute(coin, {"txid": f"fund:{user}", "amount": amount})
        self.users += users
        return users

    async def available(self, user: UUID) -> int:
        """The user's available balance."""
        return int(
            await self.scalar(
                "select posted from balance b join account a on a.id = b.account_id"
                " where a.kind = 'user_available' and a.owner_id = :user",
                user=user,
            )
            or 0
        )

    async def scalar(self, query: str, **values: object) -> Any:
        """One value."""
        async with self.database.read() as session:
            return (await session.execute(text(query), values)).scalar_one_or_none()

    async def rows(self, query: str, **values: object) -> list[tuple[Any, ...]]:
        """All rows."""
        async with self.database.read() as session:
            return [tuple(row) for row in await session.execute(text(query), values)]

    async def announced(self, event_type: str) -> list[dict[str, Any]]:
        """The data of all events of a type, in the order of the outbox; exactly what their model
        would write."""
        query = "select payload from outbox where event_type = :type order by seq"
        told = [json.loads(payload) for (payload,) in await self.rows(query, type=event_type)]
        for data in told:
            assert EVENTS[event_type].model_validate(data).model_dump(mode="json") == data
        return told

    async def check(self) -> None:
        """Every invariant holds."""
        async with self.database.read() as session:
            assert await invariants.broken(session) == {}


async def transfer_journal(
    session: Session, sender: UUID, recipient: UUID, amount: int, key: str
) -> NewJournal:
    """A transfer as the service would post it."""
    accounts = await ledger.accounts_of(session, [sender, recipient])
    return NewJournal(
        f"user:{sender}",
        key,
        request_hash(recipient, amount),
        "transfer",
        [Movement(accounts[sender], accounts[recipient], amount)],
        sender_id=sender,
        recipient_id=recipient,
    )


async def new_transfer(
    books: Books, sender: UUID, recipient: UUID, amount: int, key: str
) -> NewTransfer:
    """A transfer as the Poster takes it."""
    async with books.database.read() as session:
        accounts = await ledger.accounts_of(session, [sender, recipient])
    return NewTransfer(
        sender,
        recipient,
        accounts[sender],
        accounts[recipient],
        amount,
        None,
        key,
        request_hash(recipient, amount),
    )
