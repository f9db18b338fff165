"""Counters of users, fed by the events of the services that own them."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest
from pydantic import ValidationError
from sqlalchemy import text

from memepool_auth.commands import rebuild_stats
from memepool_auth.consumers import STATS
from memepool_auth.domain.user import Stats
from memepool_auth.settings import Settings
from memepool_auth.store import users
from memepool_auth.worker import topology
from memepool_common.db import Database
from memepool_common.events import Event, NewEvent, outbox, run_consumer, run_relay
from memepool_common.ids import uuid7
from memepool_common.testing import CountedBus, UnreliableBus
from memepool_common.web.model import WireModel
from services.auth.tests.harness import in_process_bus


class Data(WireModel, extra="allow"):
    """An event's data as another service writes it."""


def event(name: str, data: dict[str, object]) -> NewEvent:
    return NewEvent(f"memepool.{name}.v1", "subject", Data.model_validate(data), "public")


def received(data: dict[str, object]) -> Event:
    return Event(uuid7(), "", "/x", "", datetime.now(UTC), 1, "public", data, None)


def stakes(votes: Sequence[UUID], voter: UUID, amount: int) -> dict[str, object]:
    return {
        "roundId": "7",
        "voteId": [str(vote) for vote in votes],
        "voterId": [str(voter)] * len(votes),
        "contentId": [str(uuid7())] * len(votes),
        "amount": [amount] * len(votes),
    }


def history(creator: UUID, voter: UUID) -> list[NewEvent]:
    meme, votes, never_counted = str(uuid7()), [uuid7() for _ in range(5)], [uuid7()]
    published = {"contentId": meme, "creatorId": str(creator), "title": "x", "more": 1}
    paid, given_back, not_yet = (str(uuid7()) for _ in range(3))
    closed: dict[str, object] = {
        "ranking": [
            {"contentId": meme, "creatorId": str(creator), "rank": 1},
            {"contentId": str(uuid7()), "creatorId": str(voter), "rank": 2},
        ],
        "rewards": [
            {"recipient": str(creator), "amount": 250, "reason": "creator"},
            {"recipient": str(creator), "amount": 60, "reason": "first"},
            {"recipient": str(voter), "amount": 90, "reason": "tier1"},
        ],
    }
    return [
        event("content.meme.published", published),
        event("content.meme.published", published | {"title": "y"}),
        event("content.meme.published", published | {"contentId": str(uuid7())}),
        event("rounds.meme.submitted", {"creatorId": str(creator), "contentId": meme}),
        event("rounds.vote.counted", stakes(votes[:3], voter, 100)),
        event("rounds.vote.counted", stakes(votes[3:], voter, 10)),
        event("payments.stake.refunded", stakes(votes[2:3], voter, 100)),
        event("payments.stake.refunded", stakes(votes[3:4], voter, 10)),
        event("payments.stake.refunded", stakes(never_counted, voter, 1_000)),
        event("rounds.round.closed", closed | {"roundId": paid}),
        event("rounds.round.closed", closed | {"roundId": given_back}),
        event("rounds.round.closed", closed | {"roundId": not_yet, "rewards": []}),
        event("rounds.round.settled", {"roundId": paid, "refunded": False}),
        event("rounds.round.settled", {"roundId": given_back, "refunded": True}),
    ]


async def work_off(database: Database, bus: UnreliableBus, counted: CountedBus) -> None:
    """Relay and consume with two replicas until nothing is left to do."""
    stopping = asyncio.Event()
    tasks = [
        asyncio.create_task(run_relay(database, bus, "/test", stopping)),
        asyncio.create_task(run_consumer(database, bus, STATS, stopping)),
        asyncio.create_task(run_consumer(database, bus, STATS, stopping)),
    ]
    await counted.drain(database)
    await bus.settle()
    await counted.drain(database)
    stopping.set()
    await asyncio.gather(*tasks)


async def assert_exact(database: Database, people: Sequence[tuple[UUID, UUID]]) -> None:
    async with database.read() as session:
        for creator, voter in people:
            assert await users.stats(session, creator) == Stats(
                uploads=2, submissions=1, rounds_won=2, sats_earned=310
            )
            assert await users.stats(session, voter) == Stats(
                votes=5, sats_staked=210, sats_earned=90
            )


async def test_stats_are_exact_after_repeats_any_order_and_a_replay_from_the_start(
    database_for: Callable[..., Awaitable[Database]],
) -> None:
    database = await database_for("auth")
    counted = CountedBus(await in_process_bus(database))
    bus = UnreliableBus(counted, seed=7, delay_s_max=0.1)
    await bus.declare(topology())
    people = [(uuid7(), uuid7()) for _ in range(4)]
    events = [each for pair in people for each in history(*pair)]
    random.Random(3).shuffle(events)
    async with database.transaction() as session:
        await outbox.append(session, events)
    await work_off(database, bus, counted)
    await assert_exact(database, people)

    publish_again = text("update outbox set published_at = null")
    async with database.transaction() as session:
        await session.execute(publish_again)
    await work_off(database, bus, counted)  # on top of what is there: nothing counts twice
    await assert_exact(database, people)

    assert STATS.queue in await rebuild_stats(Settings.model_construct(database=database.settings))
    async with database.read() as session:
        assert await users.stats(session, people[0][0]) == Stats()
    async with database.transaction() as session:
        await session.execute(publish_again)
    await work_off(database, bus, counted)
    await assert_exact(database, people)


async def test_uneven_columns_are_refused_whole(
    database_for: Callable[..., Awaitable[Database]],
) -> None:
    uneven = stakes([uuid7(), uuid7()], uuid7(), 5) | {"amount": [5]}
    for name in ("rounds.vote.counted", "payments.stake.refunded"):
        handler = STATS.handlers[f"memepool.{name}.v1"]
        database = await database_for("auth")
        with pytest.raises(ValidationError):
            async with database.transaction() as session:
                await handler(session, [received(uneven)])
