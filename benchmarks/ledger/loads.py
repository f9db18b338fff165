"""What is done to the ledger: posting, closed and open loop; and a distribution beside it."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import text

from benchmarks.ledger.setting import deadline_in
from memepool_common.collector import Collector
from memepool_common.db import Database
from memepool_common.ids import uuid7
from memepool_payments.domain.distribution import Plan
from memepool_payments.domain.journal import (
    Movement,
    NewJournal,
    NewTransfer,
    Posting,
    request_hash,
)
from memepool_payments.store import ledger, stakes
from memepool_payments.store.distributions import Recorded
from memepool_payments.store.ledger import Velocity
from memepool_payments.store.transfers import Rules
from memepool_payments.use_cases import distribution
from memepool_payments.use_cases.posting import Poster

USERS = 10_000
MONEY = 10**9
RULES = Rules(fee=0, sent_max=21 * 10**14, sends_max=2**31 - 1)  # counted all the same


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
                        [Movement(assets, opened[user], MONEY)],
                    )
                    for user in part
                ],
            )
        accounts |= opened
    return People(users, [accounts[user] for user in users])


def _transfer(people: People, sender: int, recipient: int) -> NewTransfer:
    return NewTransfer(
        sender_id=people.users[sender],
        recipient_id=people.users[recipient],
        source=people.accounts[sender],
        target=people.accounts[recipient],
        amount=1,
        memo=None,
        key=str(uuid7()),
        request_hash=request_hash(recipient, 1, None),
    )


Post = Callable[[NewTransfer], Awaitable[Posting]]


def whole_transfers(database: Database) -> Post:
    """As the API posts them: each with its event and two audit lines."""
    return Poster(database, RULES).post


def bare_journals(database: Database) -> Post:
    """The ledger alone: journals, movements, balances, limits, keys."""

    async def post(batch: Sequence[NewTransfer]) -> Sequence[Posting]:
        journals = [
            NewJournal(
                scope=f"user:{each.sender_id}",
                key=each.key,
                request_hash=each.request_hash,
                kind="transfer",
                movements=[Movement(each.source, each.target, each.amount)],
                sender_id=each.sender_id,
                recipient_id=each.recipient_id,
            )
            for each in batch
        ]
        async with database.statement() as session:
            velocity = Velocity(RULES.sent_max, RULES.sends_max)
            return await ledger.post_distinct(session, journals, velocity)

    collector: Collector[NewTransfer, Posting] = Collector(post)
    return collector.submit


def _pair(*, hot: bool) -> tuple[int, int]:
    sender = random.randrange(1, USERS)
    return sender, 0 if hot else (sender + random.randrange(1, USERS - 1)) % USERS


async def closed_loop(
    post: Post, people: People, *, callers: int, seconds: float, hot: bool = False
) -> Latency:
    """Callers that post one transfer after the other; `hot`: all to one account."""
    until = deadline_in(seconds)
    took: list[float] = []
    await post_while(
        lambda: time.monotonic() < until,
        lambda began: took.append(time.monotonic() - began),
        post,
        people,
        callers=callers,
        hot=hot,
    )
    return Latency.of(took)


async def post_while(
    more: Callable[[], bool],
    note: Callable[[float], None],
    post: Post,
    people: People,
    *,
    callers: int,
    hot: bool = False,
) -> None:
    """Post as long as there is to be `more`; `note` is told when each that was posted began."""

    async def call() -> None:
        while more():
            began = time.monotonic()
            posting = await post(_transfer(people, *_pair(hot=hot)))
            assert posting.outcome == "posted"
            note(began)

    await asyncio.gather(*(call() for _ in range(callers)))


async def open_loop(post: Post, people: People, *, per_second: float, seconds: float) -> Latency:
    """Transfers to one hot account at random moments; latency counts from the intended one."""
    took: list[float] = []

    async def call(intended: float) -> None:
        await post(_transfer(people, *_pair(hot=True)))
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
        voters = [people.users[each] for each in backers[start : start + 500]]
        votes = {
            "roundId": round_id,
            "voteId": [uuid7() for _ in voters],
            "voterId": voters,
            "contentId": [UUID(int=1)] * len(voters),
            "amount": [100] * len(voters),
        }
        async with database.transaction() as session:
            await stakes.hold(session, [orjson.dumps(votes).decode()])
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
        rewards=90 * len(backers),
    )
    recorded = Recorded(
        plan,
        [people.users[each] for each in backers],
        [90] * len(backers),
        ["place:1"] * len(backers),
        [],
        {},
    )
    async with database.transaction() as session:
        await distribution.receive(session, recorded, [])


async def fill(database: Database, people: People, *, entries: int) -> None:
    """So many entries at least: everybody sends one satoshi to the next, round and round.

    Written by the owner, since posting them would take minutes; the balances are as before.
    """
    rounds = entries // 2 // len(people.accounts)
    owner = _owner(database)
    async with owner.transaction() as session:
        await session.execute(text("set local statement_timeout = 0"))
        await session.execute(
            text(
                "create temporary table ring on commit drop as"
                " select a.n - 1 as n, a.id, lead(a.id, 1, a.first) over (order by a.n) as next,"
                "  b.posted from (select *, first_value(id) over (order by n) as first"
                "   from unnest(cast(:accounts as bigint[])) with ordinality as x(id, n)) a"
                " join balance b on b.account_id = a.id"
            ),
            {"accounts": people.accounts},
        )
        await session.execute(
            text(
                "with sent as (insert into journal (scope, key, request_hash, kind, outcome)"
                "  select 'fill', r || '-' || n, '', 'transfer', 'posted'"
                "  from generate_series(1, :rounds) r cross join generate_series(0, :last) n"
                "  order by r, n returning id)"
                " insert into movement (journal_id, line, source, target, amount, source_after,"
                "  target_after) select s.id, 1, k.id, k.next, 1,"
                "  k.posted - case when k.n = 0 then 1 else 0 end,"
                "  t.posted + case when t.n = 0 then 0 else 1 end"
                " from (select id, (row_number() over (order by id) - 1) % :number as n"
                "  from sent) s"
                " join ring k on k.n = s.n join ring t on t.id = k.next"
            ),
            {"rounds": rounds, "last": len(people.accounts) - 1, "number": len(people.accounts)},
        )
    await owner.close()


async def settle_server(database: Database) -> None:
    """Statistics; what earlier loads left to do must not be charged to the next."""
    owner = _owner(database)
    async with owner.engine.connect() as session:
        await session.execution_options(isolation_level="AUTOCOMMIT")
        await session.execute(text("vacuum analyze"))
    await owner.close()


def _owner(database: Database) -> Database:
    owner_url = database.settings.owner_url
    assert owner_url is not None
    return Database.connect(database.settings.model_copy(update={"url": owner_url}))
