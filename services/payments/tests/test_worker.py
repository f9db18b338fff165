"""The worker as a whole: events in over a bus that repeats, delays and reorders; answers out."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import orjson
import pytest
import pytest_asyncio

from memepool_common.db import Database
from memepool_common.events import Message
from memepool_common.events.envelope import to_message
from memepool_common.ids import uuid7
from memepool_common.settings import AuthnSettings, DatabaseSettings
from memepool_common.testing import UnreliableBus
from memepool_common.testing.waiting import until
from memepool_common.web.app import Probes
from memepool_payments import consumers, worker
from memepool_payments.settings import Settings, WorkSettings
from memepool_sandbox.inprocess_bus import InProcessBus, create_bus_tables
from services.payments.tests.ballot import Ballot, event
from services.payments.tests.books import Books
from services.payments.tests.fake_chain import FakeChain
from services.payments.tests.test_deposits import SETTINGS as CHAIN
from services.payments.tests.test_distribution import Game

SAMPLE = "memepool_common.testing.sample"
NOBODY_URL = "http://127.0.0.1:9/v1/bsv"


def message(event_type: str, data: dict[str, Any]) -> Message:
    made = event(event_type, data)

    class Row:
        event_id = made.id
        event_type = made.type
        subject = made.subject
        version = made.version
        audience = made.audience
        payload = orjson.dumps(data)
        traceparent = None
        occurred_at = made.time

    return to_message(Row, "/rounds")


@pytest_asyncio.fixture
async def bus(
    database_settings_for: Callable[..., DatabaseSettings],
) -> AsyncIterator[UnreliableBus]:
    settings = database_settings_for("bus", SAMPLE)
    assert settings.owner_url is not None
    create_bus_tables(settings.owner_url.get_secret_value(), settings.app_role)
    database = Database.connect(settings)
    inner = InProcessBus(database)
    await inner.declare(worker.topology() | {"test.answers": ANSWERS})
    yield UnreliableBus(inner, seed=3, delay_s_max=0.2)
    await database.close()


ANSWERS = [
    "payments.stake.held.v1",
    "payments.stake.rejected.v1",
    "payments.rewards.distributed.v1",
]


def settings_of(books: Books) -> Settings:
    unreachable = {"source_url": NOBODY_URL, "source_timeout_s": 0.2, "source_rate_per_s": 100.0}
    return Settings(
        database=books.database.settings.model_copy(update={"pool_size": 12}),
        authn=AuthnSettings(internal_url="http://127.0.0.1:9"),
        chain=CHAIN.model_copy(update=unreachable),
        work=WorkSettings(distribution_interval_s=0.02, reconcile_interval_s=0.1),
    )


@pytest.mark.timeout(60)
async def test_a_round_through_the_bus_with_the_worker_restarted_in_between(
    books: Books, bus: UnreliableBus
) -> None:
    game = Game(books)
    game.voters = await books.funded([100, 150])
    game.votes = [(uuid7(), voter, game.meme, 100) for voter in game.voters]
    loser = (uuid7(), game.voters[0], game.meme, 100)
    settings = settings_of(books)
    ballot = Ballot(books)

    async def state_is(wanted: str) -> bool:
        query = "select count(*) from payment_round where state = :wanted"
        return bool(await books.scalar(query, wanted=wanted) == 1)

    async def votes_decided() -> bool:
        return len(await ballot.states()) == 3

    stopping = asyncio.Event()
    first = asyncio.create_task(worker.run(settings, bus, Probes(), stopping))
    await bus.publish([message(consumers.VOTE_PLACED, ballot.columns([*game.votes, loser]))])
    await until(votes_decided, 30)
    stopping.set()
    await first

    late: UUID = loser[0]
    await bus.publish(
        [
            message(consumers.ROUND_CLOSED, game.tally(void=[str(late)])),
            message(consumers.VOTE_REJECTED, ballot.columns([loser])),
            message(consumers.BLOCK_CONNECTED, {"header": block_header()}),
        ]
    )
    await bus.settle()
    stopping = asyncio.Event()
    second = asyncio.create_task(worker.run(settings, bus, Probes(), stopping))

    async def done() -> bool:
        paid = await state_is("paid")
        sent = await books.scalar("select count(*) from outbox where published_at is null") == 0
        height = await books.scalar("select height from chain_tip")
        return paid and sent and height == 1

    await until(done, 30)
    stopping.set()
    await second
    assert await game.available() == [111, 40, 80]


def block_header() -> str:
    return FakeChain().mine().header.serialize().hex()


def test_every_event_that_payments_needs_has_a_queue() -> None:
    bound = {key for keys in worker.topology().values() for key in keys}
    assert bound == {
        "auth.user.registered.v1",
        "auth.user.updated.v1",
        "rounds.block.connected.v1",
        "rounds.meme.withdrawn.v1",
        "rounds.round.closed.v1",
        "rounds.vote.placed.v1",
        "rounds.vote.rejected.v1",
    }
