"""What is done to the ledger: posting, closed and open loop; and a distribution beside it."""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text

from benchmarks.ledger.setting import deadline_in
from memepool_common.db import Database
from memepool_common.ids import uuid7
from memepool_payments.domain.distribution import Plan
from memepool_payments.domain.journal import NewJournal, movement, request_hash
from memepool_payments.store import ledger, stakes
from memepool_payments.store.distributions import Recorded
from memepool_payments.store.ledger import Velocity
from memepool_payments.store.stakes import Vote
from memepool_payments.use_cases import distribution
from memepool_payments.use_cases.posting import Order, Poster

USERS = 10_000
MONEY = 10**9
NO_LIMIT = Velocity(21 * 10**14, 2**31 - 1)  # counted all the same


class Latency(NamedTuple):
    """Of so many operations, in milliseconds."""

    operations: int
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, took_s: Sequence[float]) -> "Latency":
        """From what each took, in seconds."""
        ordered = sorted(took_s)
        number = len(ordered)
        return cls(number, ordered[number // 2] * 1e3, ordered[number * 99 // 100] * 1e3)


class People(NamedTuple):
    """Users, their accounts, at the same positions."""

    users: list[UUID]
    accounts: list[int]


async def populate(database: Database) -> People:
    """Users with money, and statistics for the planner."""
    users = [uuid7() for _ in range(USERS)]
    accounts: dict[UUID, int] = {}
    for start in range(0, USERS, 1_000):
        part = users[start : start + 1_000]
        async with database.transaction() as session:
            opened = await ledger.open_accounts(session, part)
            assets = await ledger.platform_account(session, ledger.CHAIN_ASSETS)
            await ledger.post(
                session,
                [
                    NewJournal(
                        "bench",
                        str(user),
                        b"",
                        "deposit",
                        tuple(movement(1, assets, opened[user], MONEY)),
                    )
                    for user in part
                ],
            )
        accounts |= opened
    return People(users, [accounts[user] for user in users])


def _order(people: People, sender: int, recipient: int) -> Order:
    journal = NewJournal(
        scope=f"user:{people.users[sender]}",
        key=str(uuid7()),
        request_hash=request_hash(recipient, 1),
        kind="transfer",
        legs=tuple(movement(1, people.accounts[sender], people.accounts[recipient], 1)),
        sender_id=people.users[sender],
        recipient_id=people.users[recipient],
    )
    return Order(journal, announce=lambda _: (), audit=lambda _: ())


def _pair(*, hot: bool) -> tuple[int, int]:
    sender = random.randrange(1, USERS)
    return sender, 0 if hot else (sender + random.randrange(1, USERS - 1)) % USERS


async def closed_loop(
    database: Database, people: People, *, callers: int, seconds: float, hot: bool = False
) -> Latency:
    """Callers that post one transfer after the other; `hot`: all to one account."""
    poster = Poster(database, NO_LIMIT)
    until = deadline_in(seconds)
    took: list[float] = []

    async def call() -> None:
        while (began := time.monotonic()) < until:
            posting = await poster.post(_order(people, *_pair(hot=hot)))
            assert posting.outcome == "posted"
            took.append(time.monotonic() - began)

    await asyncio.gather(*(call() for _ in range(callers)))
    return Latency.of(took)


async def open_loop(
    database: Database, people: People, *, per_second: float, seconds: float
) -> Latency:
    """Transfers to one hot account at random moments; latency counts from the intended one."""
    poster = Poster(database, NO_LIMIT)
    took: list[float] = []

    async def call(intended: float) -> None:
        await poster.post(_order(people, *_pair(hot=True)))
        took.append(time.monotonic() - intended)

    began = intended = time.monotonic()
    async with asyncio.TaskGroup() as group:
        while intended < began + seconds:
            intended += random.expovariate(per_second)
            await asyncio.sleep(intended - time.monotonic())
            group.create_task(call(intended))
    return Latency.of(took)


async def prepare_round(database: Database, people: People, round_id: str, rewards: int) -> None:
    """A closed round whose plan pays so many lines."""
    backers = random.sample(range(USERS), min(rewards, USERS))
    for start in range(0, len(backers), 500):
        votes = [
            Vote(uuid7(), round_id, people.users[each], UUID(int=1), 100)
            for each in backers[start : start + 500]
        ]
        async with database.transaction() as session:
            await stakes.hold(session, votes)
    pot = 100 * len(backers)
    plan = Plan(
        round_id=round_id,
        counted_votes=len(backers),
        stakes=pot,
        carry_in=0,
        carry_sources={},
        pot=pot,
        fee=pot * 200 // 10_000,
        fee_basis_points=200,
        carry_out=pot - pot * 200 // 10_000 - 90 * len(backers),
        creators=frozenset(),
        recipients=[people.users[each] for each in backers],
        amounts=[90] * len(backers),
    )
    async with database.transaction() as session:
        await distribution.receive(session, Recorded(plan, ["place:1"] * len(backers), [], {}), [])


async def pay_round(database: Database) -> float:
    """Pay every closed round; returns the seconds that took."""
    began = time.monotonic()
    await distribution.work(database)
    return time.monotonic() - began


async def settle_server(database: Database) -> None:
    """Statistics; what earlier loads left to do must not be charged to the next."""
    owner_url = database.settings.owner_url
    assert owner_url is not None
    owner = Database.connect(database.settings.model_copy(update={"url": owner_url}))
    async with owner.engine.connect() as session:
        await session.execution_options(isolation_level="AUTOCOMMIT")
        await session.execute(text("vacuum analyze"))
    await owner.close()
