"""The whole system, reached as clients reach it: over HTTP, through the gateway.

Each module gets a system of its own: in one process on the plain bus; in one process on a bus that
delivers every event twice, the second time late and out of order; and as processes, with RabbitMQ
and Redis between them. The tests are the same.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from memepool_chain.whatsonchain import WhatsOnChain
from memepool_common.db import Database
from memepool_common.events import Bus
from memepool_common.settings import DatabaseSettings
from memepool_common.testing import UnreliableBus
from memepool_sandbox.accounting import check_coins, check_ledger
from memepool_sandbox.launcher.local import provision_broker
from memepool_sandbox.launcher.options import Options, free_port_block
from memepool_sandbox.launcher.processes import ProcessSystem, Servers, running_processes
from memepool_sandbox.launcher.services import MINIMUM_ROUND_AGE_S, SERVICES
from memepool_sandbox.launcher.system import (
    System,
    prepare_databases,
    running_system,
)
from memepool_sandbox.players.http import Api
from memepool_sandbox.players.player import Player, eventually
from memepool_sandbox.postgres import start_postgres
from tests.spans import Collector, collecting

TIMEOUT_S = 30.0
SPANS_SENT_EACH_MS = 200


def _plain(bus: Bus) -> Bus:
    return bus


def _unreliable(bus: Bus) -> Bus:
    return UnreliableBus(bus, seed=11, delay_s_max=0.4)


@dataclass
class World:
    """A running system, and how tests act on it."""

    system: System | ProcessSystem
    http: httpx.AsyncClient
    chain: httpx.AsyncClient
    spans: Collector = field(default_factory=Collector)
    players: list[Player] = field(default_factory=list)

    async def player(self, role: str = "viewer", *, deposit_sats: int = 0) -> Player:
        """Somebody new who has signed in, with a deposit if asked for."""
        name = f"player-{len(self.players)}"
        player = Player(name, uuid4().bytes, Api(self.http), Api(self.chain))
        self.players.append(player)
        await player.sign_in()
        if role == "creator":
            await player.become_creator()
        if deposit_sats:
            await player.deposit(deposit_sats)
        return player

    async def control(self, action: str, **options: Any) -> dict[str, Any]:
        """Do something to the simulated world."""
        answer = await self.chain.post(f"/control/{action}", json=options)
        assert answer.is_success, answer.text
        result: dict[str, Any] = answer.json()
        return result

    async def get(self, path: str, **options: Any) -> dict[str, Any]:
        """Read what needs no token."""
        answer = await self.http.get(path, **options)
        assert answer.is_success, answer.text
        result: dict[str, Any] = answer.json()
        return result

    async def until(
        self, what: Callable[[], Awaitable[bool]], timeout_s: float = TIMEOUT_S
    ) -> None:
        """Wait until it is so; fails after a while."""

        async def asked() -> bool | None:
            return True if await what() else None

        await eventually(asked, timeout_s)

    async def next_round(self) -> str:
        """Mine the block that opens the next round; its id. A second block too many could end
        that one, so the block is mined when the open round is old enough to heed it."""
        before = await self.get("/rounds/current")
        opened_at = datetime.fromisoformat(before["startTime"])
        ripe_at = opened_at + timedelta(seconds=MINIMUM_ROUND_AGE_S)
        await asyncio.sleep((ripe_at - datetime.now(UTC)).total_seconds())
        await self.control("mine", blocks=1)

        async def opened() -> str | None:
            current = str((await self.get("/rounds/current"))["id"])
            return current if current != before["id"] else None

        return await eventually(opened, TIMEOUT_S)

    async def until_open(self) -> None:
        """Wait until a round is open and rounds answers."""

        async def answered() -> bool:
            return bool((await self.http.get("/rounds/current")).is_success)

        await self.until(answered)

    async def settled(self, round_id: str) -> dict[str, Any]:
        """The results of a round once its rewards are in the ledger."""

        async def done() -> bool:
            return bool((await self.get(f"/rounds/{round_id}"))["state"] == "settled")

        await self.until(done)
        return await self.get(f"/rounds/{round_id}/results")

    async def adds_up(self) -> None:
        """The ledger is balanced, and coins on chain cover exactly what it owes and owns."""
        reserves = await self.get("/payments/reserves")
        await adds_up(self.system.databases["payments"], self.system.chain_url, reserves)


async def adds_up(payments: DatabaseSettings, chain_url: str, reserves: dict[str, Any]) -> None:
    """Payments' ledger is balanced, and coins on chain cover exactly what it owes and owns."""
    database = Database.connect(payments)
    async with WhatsOnChain(f"{chain_url}/v1/bsv", rate_per_s=50) as source:
        checks = [
            *await check_ledger(database),
            await check_coins(database, source, reserves),
        ]
    await database.close()
    assert [check for check in checks if not check.holds] == []


@pytest.fixture(
    scope="module",
    params=["once", "twice-and-late", "processes"],
)
def mode(request: pytest.FixtureRequest) -> str:
    """How the system runs: in one process on a plain or an unreliable bus, or as processes."""
    return str(request.param)


@pytest.fixture(scope="module")
def databases(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mapping[str, DatabaseSettings]]:
    """A PostgreSQL of the module's own, with the databases of all services."""
    with start_postgres(tmp_path_factory.mktemp("postgres"), fsync=False) as server:
        yield prepare_databases(server)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    """Free ports and a folder; no block comes by itself."""
    return Options(
        port=free_port_block(),
        players=0,
        block_seconds=86_400,
        data=tmp_path_factory.mktemp("system"),
    )


@pytest.fixture(scope="module")
def spans(mode: str) -> Iterator[Collector]:
    """Where the system's traces are collected, in every mode over HTTP."""
    with collecting() as collector, pytest.MonkeyPatch.context() as patch:
        if mode == "processes":
            patch.setenv("OTEL_BSP_SCHEDULE_DELAY", str(SPANS_SENT_EACH_MS))
            for service in SERVICES:
                name = f"MEMEPOOL_{service.upper()}_TELEMETRY__OTLP_ENDPOINT"
                patch.setenv(name, collector.endpoint)
            yield collector
            return
        exporter = OTLPSpanExporter(endpoint=collector.endpoint)
        sending = BatchSpanProcessor(exporter, schedule_delay_millis=SPANS_SENT_EACH_MS)
        provider = trace.get_tracer_provider()
        assert isinstance(provider, TracerProvider)
        provider.add_span_processor(sending)
        yield collector
        sending.shutdown()  # type: ignore[no-untyped-call]  # the library has no annotation


@pytest.fixture(scope="module")
def processes(
    mode: str,
    options: Options,
    databases: Mapping[str, DatabaseSettings],
    spans: Collector,
    request: pytest.FixtureRequest,
) -> Iterator[ProcessSystem | None]:
    """All services as processes of their own, where the mode asks for it."""
    if mode != "processes":
        yield None
        return
    broker = request.getfixturevalue("rabbitmq_server")
    redis_url = request.getfixturevalue("redis_server_url")
    servers = Servers(databases, provision_broker(broker), redis_url)
    with running_processes(options, servers) as system:
        yield system


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    mode: str,
    options: Options,
    databases: Mapping[str, DatabaseSettings],
    processes: ProcessSystem | None,
    spans: Collector,
) -> AsyncIterator[World]:
    """The running system."""
    async with contextlib.AsyncExitStack() as stack:
        system: System | ProcessSystem | None = processes
        if system is None:
            wrap_bus = _unreliable if mode == "twice-and-late" else _plain
            running = running_system(options, databases, wrap_bus=wrap_bus)
            system = await stack.enter_async_context(running)
        yield await opened_world(stack, system, spans)


async def opened_world(
    stack: contextlib.AsyncExitStack,
    system: System | ProcessSystem,
    spans: Collector | None = None,
) -> World:
    """A world around a running system, in which a round is open."""
    http = httpx.AsyncClient(base_url=system.gateway_url, timeout=TIMEOUT_S)
    chain = httpx.AsyncClient(base_url=system.chain_url, timeout=TIMEOUT_S)
    for client in (http, chain):
        await stack.enter_async_context(client)
    world = World(system, http, chain, spans or Collector())
    await world.until_open()
    return world
