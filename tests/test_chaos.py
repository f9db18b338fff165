"""Processes are killed, servers go away and come back, in the middle of a round: no satoshi and no
acknowledged vote is lost, and nothing is paid twice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from memepool_sandbox.launcher.local import provision_broker
from memepool_sandbox.launcher.options import Options
from memepool_sandbox.launcher.processes import Process, ProcessSystem, Servers, running_processes
from memepool_sandbox.launcher.system import prepare_databases
from memepool_sandbox.players.http import ApiError
from memepool_sandbox.players.player import Player
from memepool_sandbox.postgres import PostgresServer, start_postgres
from memepool_sandbox.rabbitmq_server import PrivateRabbitmq
from tests.conftest import World, opened_world

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),
    pytest.mark.soak,  # twenty processes at once leave nothing for tests beside them
]
DEPOSIT_SATS = 100_000
STAKE_SATS = 100
REPLICAS = 2
AWAY_S = 30.0
LATE_S = 60.0
LATE = ("payments-worker", "payments-worker-2")


@dataclass
class Postgres:
    """A server that can be restarted at the same address."""

    folder: Path
    _running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def start(self) -> PostgresServer:
        return self._running.enter_context(start_postgres(self.folder, fsync=False))

    def stop(self) -> None:
        self._running.close()


@dataclass
class Round:
    """A round with memes and voters, and what was promised to the voters."""

    id: str
    memes: list[str]
    voters: list[Player]
    acknowledged: dict[str, Player] = field(default_factory=dict)

    async def vote(self) -> None:
        """Everybody stakes once; what is acknowledged is remembered."""
        await asyncio.gather(*(self._vote(voter) for voter in self.voters))

    async def _vote(self, voter: Player) -> None:
        stake = {"contentId": self.memes[0], "amount": STAKE_SATS}
        with contextlib.suppress(ApiError, httpx.TransportError):
            placed = await voter.call("POST", f"/rounds/{self.id}/vote", json=stake)
            self.acknowledged[placed["id"]] = voter


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """The module's PostgreSQL."""
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def system(
    postgres: Postgres,
    private_rabbitmq: PrivateRabbitmq,
    redis_server_url: str,
    options: Options,
) -> Iterator[ProcessSystem]:
    """Two replicas of everything."""
    databases = prepare_databases(postgres.start())
    servers = Servers(databases, provision_broker(private_rabbitmq), redis_server_url)
    with running_processes(options, servers, replicas=REPLICAS, late=LATE) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(system: ProcessSystem) -> AsyncIterator[World]:
    """The running system."""
    async with contextlib.AsyncExitStack() as stack:
        yield await opened_world(stack, system)


async def _round(world: World) -> Round:
    maker = await world.player("creator")
    voters = [await world.player(deposit_sats=DEPOSIT_SATS) for _ in range(3)]
    meme = await maker.upload()
    round_id = await world.next_round()
    await asyncio.gather(*(voter.until_available(DEPOSIT_SATS, 60) for voter in voters))
    await maker.submit(meme, round_id)
    return Round(round_id, [meme], voters)


async def _ends_well(world: World, played: Round) -> None:
    """The round settles, every acknowledged vote is in the pot or given back, all adds up."""
    await world.next_round()
    results = await world.settled(played.id)
    states: dict[str, dict[str, Any]] = {}
    for vote_id, voter in played.acknowledged.items():
        states[vote_id] = await voter.call("GET", f"/rounds/{played.id}/votes/{vote_id}")
    counted = [vote for vote in states.values() if vote["state"] == "counted"]
    assert {vote["state"] for vote in states.values()} <= {"counted", "rejected"}
    stakes = sum(place["stakes"] for place in results["ranking"])
    assert stakes >= sum(vote["amount"] for vote in counted)  # an answer may be lost on its way
    rewards = sum(line["amount"] for line in results["rewards"])
    assert results["pot"] == results["fee"] + rewards + results["carryOut"]
    votes = await played.voters[0].call("GET", f"/rounds/{played.id}/votes", params={"limit": 100})
    counted_sats: dict[str, int] = {}
    for vote in votes["items"]:
        if vote["state"] == "counted":
            counted_sats[vote["voterId"]] = counted_sats.get(vote["voterId"], 0) + vote["amount"]
    assert sum(counted_sats.values()) == stakes
    for voter in played.voters:
        earned = sum(
            line["amount"] for line in results["rewards"] if line["recipient"] == voter.user_id
        )
        expected = DEPOSIT_SATS - counted_sats.get(voter.user_id, 0) + earned
        assert (await voter.balance())["available"] == expected
    await world.adds_up()


async def _refuses(process: Process, leaver: Player) -> None:
    """From its first request on it knows whose session has ended."""
    service = process.name.partition("-")[0]
    path = "/auth/me" if service == "gateway" else f"/{service}/audit"
    headers = {"Authorization": f"Bearer {leaver._access_token}"}
    async with httpx.AsyncClient(base_url=process.url) as http:
        answer = await http.get(path, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended"), process.name


async def _again(process: Process) -> None:
    await asyncio.to_thread(process.start)
    await asyncio.to_thread(process.wait_ready)


async def test_a_service_that_starts_later_than_the_others_misses_nothing(
    world: World, system: ProcessSystem
) -> None:
    maker = await world.player("creator")
    voter = await world.player(deposit_sats=DEPOSIT_SATS)
    meme = await maker.upload()
    entered = await maker.submit(meme)
    stake = {"contentId": meme, "amount": STAKE_SATS}
    placed = await voter.call("POST", f"/rounds/{entered['roundId']}/vote", json=stake)
    assert placed["state"] == "pending"
    await asyncio.sleep(LATE_S)
    for name in LATE:
        await _again(system.processes[name])

    async def decided() -> bool:
        path = f"/rounds/{placed['roundId']}/votes/{placed['id']}"
        answer = await voter.call("GET", path)
        return (answer["state"], answer["reason"]) == ("rejected", "insufficient_funds")

    await world.until(decided)
    await world.next_round()  # the block confirms the deposit, too
    await voter.until_available(DEPOSIT_SATS, 60)
    assert (await world.settled(entered["roundId"]))["pot"] == 0
    await world.adds_up()


async def test_each_process_is_killed_once_in_the_middle_of_a_round(
    world: World, system: ProcessSystem
) -> None:
    played = await _round(world)
    leaver = await world.player()
    await leaver.call("DELETE", "/auth/session")
    for name, process in system.processes.items():
        if name == "world" or name.endswith("-2"):
            continue
        voting = asyncio.create_task(played.vote())
        await asyncio.to_thread(process.kill)
        await voting
        await _again(process)
        if name.endswith("-api"):
            await _refuses(process, leaver)
        await played.vote()
    assert len(played.acknowledged) >= 3 * 10
    await _ends_well(world, played)


async def test_rabbitmq_goes_away_and_comes_back(
    world: World, private_rabbitmq: PrivateRabbitmq
) -> None:
    played = await _round(world)
    await played.vote()
    await asyncio.to_thread(private_rabbitmq.kill)
    await played.vote()  # votes are accepted; their events wait in the outbox
    await asyncio.sleep(AWAY_S)
    await asyncio.to_thread(private_rabbitmq.start)
    await played.vote()
    assert len(played.acknowledged) == 9
    await _ends_well(world, played)


async def test_postgresql_is_restarted(world: World, postgres: Postgres) -> None:
    played = await _round(world)
    await played.vote()
    await asyncio.to_thread(postgres.stop)
    await asyncio.to_thread(postgres.start)
    await played.vote()
    await world.until_open()  # a pool learns from its first call that its connections are gone
    await _ends_well(world, played)
