"""The worker process: it follows, consumes, tallies, relays, dies, comes back, and stops."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from memepool_chain.network import REGTEST
from memepool_common.db import Database
from memepool_common.ids import uuid7
from memepool_common.settings import AuthnSettings, DatabaseSettings
from memepool_common.testing import UnreliableBus, until
from memepool_common.web.app import Probes
from memepool_rounds import worker
from memepool_rounds.adapters.watched_bus import WatchedBus
from memepool_rounds.consumers import STAKES_QUEUE
from memepool_rounds.settings import ChainSettings, RoundSettings, Settings
from memepool_rounds.use_cases import following
from memepool_rounds.worker import run, topology
from memepool_sandbox.inprocess_bus import InProcessBus, create_bus_tables
from services.rounds.tests.harness import World


def settings_for(database: DatabaseSettings, network: str = "regtest") -> Settings:
    """A worker whose source never answers: the test polls itself."""
    return Settings(
        database=database.model_copy(update={"pool_size": 10}),
        authn=AuthnSettings(internal_url="http://127.0.0.1:9"),
        chain=ChainSettings(
            network=network, source_url="http://127.0.0.1:9", poll_interval_s=60, timeout_s=1
        ),
        rounds=RoundSettings(tick_interval_s=0.02),
    )


@pytest.fixture
def bus_database(database_settings: DatabaseSettings) -> Database:
    assert database_settings.owner_url is not None
    create_bus_tables(database_settings.owner_url.get_secret_value(), database_settings.app_role)
    return Database.connect(database_settings)


@contextlib.asynccontextmanager
async def working(settings: Settings, bus: UnreliableBus) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    task = asyncio.create_task(run(settings, bus, Probes(), stopping))
    try:
        yield
    finally:
        stopping.set()
        await asyncio.wait_for(task, 20)


async def test_the_worker_tallies_and_relays_with_every_message_twice(
    world: World, database_settings: DatabaseSettings, bus_database: Database
) -> None:
    inner = InProcessBus(bus_database)
    bus = UnreliableBus(inner, seed=3, delay_s_max=0.05)
    await bus.declare({**topology(), "payments.saga": ["rounds.vote.placed.v1"]})
    meme = (await world.enter()).content_id
    votes = [await world.place(meme, 10 + i, voter_id=uuid7()) for i in range(3)]
    await world.block()
    settings = settings_for(database_settings)
    async with working(settings, bus):
        placed = 0
        async with bus.subscribe("payments.saga") as inlet:
            async with asyncio.timeout(10):
                while placed < 3:
                    received = await inlet.receive(10, 0.5)
                    await inlet.ack(received)
                    placed += len({delivery.message.id for delivery in received})
        assert (await world.round(100)).state == "closing"
        await world.hold(*votes)
        world.clock.instant = (await world.round(100)).opened_at

        async def closed() -> bool:
            return (await world.round(100)).state == "closed"

        await until(closed)
    await bus.settle()
    (event,) = await world.events("round.closed")
    assert event["stakes"] == 33
    await bus_database.close()


async def test_a_network_that_retargets_needs_a_checkpoint(
    database_settings: DatabaseSettings, bus_database: Database
) -> None:
    with pytest.raises(ValueError, match="CHECKPOINT_HEIGHT"):
        await run(
            settings_for(database_settings, "main"),
            InProcessBus(bus_database),
            Probes(),
            asyncio.Event(),
        )
    await bus_database.close()


async def test_only_one_process_follows_at_a_time(
    world: World, database_settings: DatabaseSettings
) -> None:
    databases = [Database.connect(database_settings) for _ in range(2)]
    polled = [0, 0]
    stopping = [asyncio.Event(), asyncio.Event()]

    def poll_of(index: int) -> Callable[[], Awaitable[None]]:
        async def poll() -> None:
            polled[index] += 1

        return poll

    tasks = [
        asyncio.create_task(worker.follow(database, poll_of(i), 0.01, stopping[i]))
        for i, database in enumerate(databases)
    ]
    await until(lambda: sum(polled) > 5)
    leader = 0 if polled[0] else 1
    assert polled[1 - leader] == 0
    stopping[leader].set()
    await tasks[leader]
    await until(lambda: polled[1 - leader] > 1)
    stopping[1 - leader].set()
    await tasks[1 - leader]
    for database in databases:
        await database.close()


async def test_who_follows_no_longer_raises_no_alarm(
    world: World, database_settings: DatabaseSettings
) -> None:
    database, stopping = Database.connect(database_settings), asyncio.Event()
    async with world.database.engine.connect() as other:
        await other.exec_driver_sql("select pg_advisory_lock(7223001)")
        following.FAILING.set(700)
        task = asyncio.create_task(worker.follow(database, world.follower.poll, 0.01, stopping))
        await until(lambda: REGISTRY.get_sample_value("memepool_chain_source_failing_seconds") == 0)
        stopping.set()
        await task
    await database.close()


async def test_a_silent_source_does_not_hold_up_the_shutdown(
    world: World, database_settings: DatabaseSettings
) -> None:
    database, stopping = Database.connect(database_settings), asyncio.Event()
    asked = asyncio.Event()

    async def poll() -> None:
        asked.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(worker.follow(database, poll, 0.01, stopping))
    await asked.wait()
    stopping.set()
    await asyncio.wait_for(task, 5)
    await database.close()


async def test_a_queue_counts_as_consumed_only_while_it_is_read(bus_database: Database) -> None:
    bus = WatchedBus(InProcessBus(bus_database))
    await bus.declare(topology())
    assert not bus.consuming(STAKES_QUEUE)
    async with bus.subscribe(STAKES_QUEUE) as inlet:
        assert not bus.consuming(STAKES_QUEUE)
        await inlet.receive(1, 0.01)
        assert bus.consuming(STAKES_QUEUE)
        assert not bus.consuming("rounds.projections")
    assert not bus.consuming(STAKES_QUEUE)
    await bus_database.close()


def test_what_is_consumed_is_what_others_publish() -> None:
    assert topology() == {
        "rounds.stakes": ["payments.stake.held.v1", "payments.stake.rejected.v1"],
        "rounds.projections": [
            "auth.user.registered.v1",
            "auth.user.updated.v1",
            "content.meme.published.v1",
            "content.meme.removed.v1",
        ],
        "rounds.settlement": [
            "payments.distribution.stopped.v1",
            "payments.rewards.distributed.v1",
            "payments.settlement.updated.v1",
            "payments.stake.refunded.v1",
        ],
    }


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DATABASE__URL": "postgresql+psycopg://x",
        "DATABASE__APP_ROLE": "rounds_app",
        "AUTHN__INTERNAL_URL": "http://auth",
        "CHAIN__NETWORK": REGTEST.name,
        "CHAIN__API_KEY": "key",
        "ROUNDS__MINIMUM_AGE_S": "2.5",
    }.items():
        monkeypatch.setenv(f"MEMEPOOL_ROUNDS_{name}", value)
    settings = Settings()
    assert settings.chain.api_key == SecretStr("key")
    assert (settings.chain.network, settings.rounds.minimum_age_s) == ("regtest", 2.5)


FOLLOWER = """
import asyncio, sys
from memepool_common.db import Database
from memepool_common.settings import DatabaseSettings
from memepool_rounds.worker import follow

async def poll():
    print("polled", flush=True)

async def main():
    database = Database.connect(DatabaseSettings(url=sys.argv[1], app_role="rounds_app"))
    await follow(database, poll, 600.0, asyncio.Event())

asyncio.run(main())
"""


async def test_another_process_follows_soon_after_a_kill(
    database_settings: DatabaseSettings, world: World
) -> None:
    """Soon: it tries for the lock every 2 s, however rarely it would poll."""
    assert worker.STANDBY_INTERVAL_S_MAX < 5
    url = database_settings.url.get_secret_value()

    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", FOLLOWER, url), stdout=asyncio.subprocess.PIPE
        )

    first = await start()
    assert first.stdout is not None
    assert await asyncio.wait_for(first.stdout.readline(), 60) == b"polled\n"
    second = await start()
    assert second.stdout is not None
    tries = (
        "select from pg_stat_activity where datname = current_database()"
        " and pid <> pg_backend_pid() and query like '%pg_try_advisory_lock%'"
    )

    async def second_has_tried() -> bool:
        return bool(await world.rows(tries))

    await until(second_has_tried, 60)
    first.kill()
    assert await asyncio.wait_for(second.stdout.readline(), 60) == b"polled\n"
    second.kill()
    await asyncio.gather(first.wait(), second.wait())
