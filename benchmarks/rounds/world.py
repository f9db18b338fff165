"""An open round with memes, and voters with money, made by the services' own code."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from memepool_chain import headerstore
from memepool_chain.headerstore import Checkpoint
from memepool_chain.network import REGTEST
from memepool_common.db import Database
from memepool_common.ids import uuid7
from memepool_payments.domain.journal import Movement, NewJournal, request_hash
from memepool_payments.store import ledger
from memepool_rounds.use_cases.entering import Entry, admit
from memepool_rounds.use_cases.turning import turn_round

MEMES: Final = 20
SATS_EACH: Final = 10**9


async def open_round(database: Database) -> list[UUID]:
    """Open a round at the first block; its memes."""
    now = datetime.now(UTC)
    memes = [uuid7() for _ in range(MEMES)]
    async with database.transaction() as session:
        tip = await headerstore.initialize(session, Checkpoint.genesis(REGTEST))
        await turn_round(
            session,
            tip,
            caught_up=True,
            now=now,
            minimum_age=timedelta(0),
            submissions_max=MEMES,
        )
        entries = [Entry(tip.height, meme, uuid7(), 1, "00" * 32, now) for meme in memes]
        await admit(session, tip.height, entries)
    return memes


async def fund(database: Database, users: Sequence[UUID]) -> None:
    """Give each of them money, as if deposited."""
    async with database.transaction() as session:
        accounts = await ledger.open_accounts(session, users)
        assets = await ledger.platform_account(session, ledger.CHAIN_ASSETS)
        await ledger.post(
            session,
            [
                NewJournal(
                    "benchmark",
                    f"fund:{user}",
                    request_hash(SATS_EACH),
                    "deposit",
                    [Movement(assets, accounts[user], SATS_EACH)],
                    recipient_id=user,
                )
                for user in users
            ],
        )
