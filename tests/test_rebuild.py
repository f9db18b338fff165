"""Statistics rebuilt as an operator does it: one command of auth's, and one of each service that
publishes what auth counts; on real servers, with the rights that services have in production."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import text

import memepool_auth.settings as auth_settings
import memepool_content.events as content
import memepool_payments.events as payments
import memepool_rounds.events as rounds
from memepool_auth import commands
from memepool_auth.consumers import STATS
from memepool_auth.domain.user import Stats
from memepool_auth.store import users
from memepool_common.db import Database
from memepool_common.events import NewEvent, outbox, run_consumer, run_relay
from memepool_common.events.bus import BusUnavailableError, Message
from memepool_common.events.rabbitmq import RabbitBus
from memepool_common.events.rabbitmq_topology import REPUBLISH_EXCHANGE, republish_key
from memepool_common.events.republish import republish
from memepool_common.ids import uuid7
from memepool_common.settings import BusSettings, DatabaseSettings
from memepool_common.testing import until
from memepool_sandbox.launcher.environment import environment_of
from memepool_sandbox.launcher.local import VHOST, provision_broker
from memepool_sandbox.launcher.options import free_port_block
from memepool_sandbox.launcher.secrets import load_or_make
from memepool_sandbox.launcher.services import SERVICES, Surroundings, build_parts, choose_ports
from memepool_sandbox.rabbitmq_server import RabbitmqServer

PRODUCERS = ("content", "rounds", "payments")
TIMEOUT_S = 60.0


class Calls:
    """What the commands do, called in this process."""

    def __init__(self, databases: Mapping[str, DatabaseSettings], urls: Mapping[str, str]) -> None:
        self._databases = databases
        self._urls = urls

    async def rebuild_stats(self) -> str:
        """Auth's part."""
        settings = auth_settings.Settings.model_construct(database=self._databases["auth"])
        return await commands.rebuild_stats(settings)

    async def republish(self, service: str) -> int:
        """How many events a service sends again."""
        database = Database.connect(self._databases[service])
        bus = RabbitBus(self._urls[service], name="test republish")
        try:
            return await republish(database, bus, f"/{service}", STATS.queue)
        finally:
            await bus.close()
            await database.close()


class Commands(NamedTuple):
    """The commands themselves, as a person types them."""

    environment: Mapping[str, str]

    async def rebuild_stats(self) -> str:
        """Auth's part."""
        return await self._run("auth", "rebuild-stats")

    async def republish(self, service: str) -> int:
        """How many events a service says that it sends again."""
        return int((await self._run(service, "republish", STATS.queue)).split()[0])

    async def _run(self, service: str, *command: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"memepool_{service}", *command),
            env=os.environ | self.environment,
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        assert process.returncode == 0
        return printed.decode()


@pytest.fixture
def bus_urls(rabbitmq_server: RabbitmqServer) -> Iterator[dict[str, str]]:
    """The broker's address for each service, whose user may do what it may in production."""
    yield provision_broker(rabbitmq_server)
    rabbitmq_server.forget([VHOST], SERVICES)


@pytest.fixture(params=["calls", pytest.param("commands", marks=pytest.mark.soak)])
def operator(
    request: pytest.FixtureRequest,
    databases: Mapping[str, DatabaseSettings],
    bus_urls: Mapping[str, str],
    tmp_path: Path,
) -> Calls | Commands:
    """Who rebuilds. Four processes take a while to start, so they are for `make soak`."""
    if request.param == "calls":
        return Calls(databases, bus_urls)
    around = Surroundings(
        databases=databases,
        ports=choose_ports(free_port_block()),
        secrets=load_or_make(tmp_path),
        chain_url="http://127.0.0.1:1",
        aitubo_url="http://127.0.0.1:1",
        store=tmp_path,
    )
    environment: dict[str, str] = {}
    for part in build_parts(around):
        bus = BusSettings(url=SecretStr(bus_urls[part.name]))
        settings = part.settings.model_copy(update={"bus": bus})
        environment |= environment_of(part.name, settings)
    return Commands(environment)


def some(kind: Any, **fields: Any) -> Any:
    """An event's data with the fields that are counted, and no others."""
    return kind.model_construct(**fields)


def history(creator: UUID, voter: UUID) -> dict[str, list[NewEvent]]:
    """What each service says of a round in which one vote of three is given back."""
    meme, votes, round_id = uuid7(), [uuid7() for _ in range(3)], str(uuid7())
    mine = {"content_id": meme, "creator_id": creator}
    published = some(content.MemePublishedData, **mine)
    stakes: dict[str, list[Any]] = {"vote_id": votes, "voter_id": [voter] * 3, "amount": [100] * 3}
    place = rounds.RankedMeme(content_id=meme, creator_id=creator, stakes=200, backers=1, rank=1)
    reward = rounds.RewardLine(recipient=creator, amount=90, reason="creator")
    closed = some(rounds.RoundClosedData, round_id=round_id, ranking=[place], rewards=[reward])
    settled = some(rounds.RoundSettledData, round_id=round_id, refunded=False)
    back = {name: column[:1] for name, column in stakes.items()}
    return {
        "content": [
            content.meme_published(published, 1),
            content.meme_published(published, 2),
            content.job_updated(some(content.JobUpdatedData, job_id=uuid7(), **mine), 1),
        ],
        "rounds": [
            rounds.about_round(kind, round_id, data)
            for kind, data in (
                (rounds.MEME_SUBMITTED, some(rounds.MemeSubmittedData, **mine)),
                (rounds.VOTE_COUNTED, some(rounds.VotesCountedData, **stakes)),
                (rounds.ROUND_CLOSED, closed),
                (rounds.ROUND_SETTLED, settled),
            )
        ],
        "payments": [
            payments.about_round(
                payments.STAKE_REFUNDED, round_id, some(payments.StakesRefundedData, **back)
            )
        ],
    }


class System:
    """The databases of all services, relays of those that publish, and auth's consumer."""

    def __init__(self, databases: Mapping[str, Database], buses: Mapping[str, RabbitBus]) -> None:
        self.databases = databases
        self.buses = buses
        self.people = [(uuid7(), uuid7()) for _ in range(40)]

    async def say(self) -> None:
        """The services write their part of everybody's history."""
        for creator, voter in self.people:
            for service, events in history(creator, voter).items():
                async with self.databases[service].transaction() as session:
                    await outbox.append(session, events)

    async def stats(self) -> list[tuple[Stats, Stats]]:
        """Of everybody, as auth has them."""
        async with self.databases["auth"].read() as session:
            return [
                (await users.stats(session, creator), await users.stats(session, voter))
                for creator, voter in self.people
            ]

    async def until_exact(self) -> None:
        """Wait until everybody's statistics are what happened."""
        right = (
            Stats(uploads=1, submissions=1, rounds_won=1, sats_earned=90),
            Stats(votes=3, sats_staked=200),
        )

        async def exact() -> bool:
            return await self.stats() == [right] * len(self.people)

        await until(exact, TIMEOUT_S)
        assert await self.buses["auth"].backlog(f"{STATS.queue}.dead") == 0

    async def said(self, service: str) -> int:
        """How many events of those that auth counts a service has ever written."""
        query = text("select count(*) from outbox where event_type = any(:types)")
        async with self.databases[service].read() as session:
            found = await session.execute(query, {"types": list(STATS.handlers)})
        count: int = found.scalar_one()
        return count

    async def backlogs(self, queues: Sequence[str]) -> list[int]:
        """How many messages wait in queues that nobody reads here."""
        return [await self.buses["auth"].backlog(queue) for queue in queues]


@pytest.fixture
async def system(
    databases: Mapping[str, DatabaseSettings], bus_urls: Mapping[str, str]
) -> AsyncIterator[System]:
    """All of it, running."""
    stopping = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        opened = {name: Database.connect(databases[name]) for name in ("auth", *PRODUCERS)}
        buses = {name: RabbitBus(bus_urls[name], name=f"test {name}") for name in opened}
        for database in opened.values():
            stack.push_async_callback(database.close)
        for bus in buses.values():
            stack.push_async_callback(bus.close)
        tasks = [
            asyncio.create_task(run_relay(opened[name], buses[name], f"/{name}", stopping))
            for name in PRODUCERS
        ]
        tasks.append(
            asyncio.create_task(run_consumer(opened["auth"], buses["auth"], STATS, stopping))
        )
        yield System(opened, buses)
        stopping.set()
        await asyncio.gather(*tasks)


async def test_statistics_are_rebuilt_from_what_the_others_have_said(
    system: System, operator: Calls | Commands
) -> None:
    await system.say()
    await system.until_exact()
    elsewhere = ("payments.rounds", "rounds.projections", "gateway.stream")
    heard = await system.backlogs(elsewhere)
    assert "statistics are empty" in await operator.rebuild_stats()
    assert await system.stats() == [(Stats(), Stats())] * len(system.people)
    counts = await asyncio.gather(*map(operator.republish, PRODUCERS))
    assert counts == [await system.said(service) for service in PRODUCERS]
    assert min(counts) >= len(system.people)
    await system.until_exact()
    assert await system.backlogs(elsewhere) == heard


async def test_no_service_can_repeat_what_another_has_said(system: System) -> None:
    bus = system.buses["content"]
    key = republish_key("rounds.round.closed.v1", STATS.queue)
    properties = bus.properties(Message(uuid7(), key, {}, b"{}"))
    (refusal,) = await bus.send([(REPUBLISH_EXCHANGE, key, properties, b"{}")])
    assert isinstance(refusal, BusUnavailableError)
    assert "ACCESS_REFUSED" in repr(refusal)
