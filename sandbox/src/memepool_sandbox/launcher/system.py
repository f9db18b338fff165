"""Starts and stops the whole system inside one process and one event loop.

The order is: the outside world, the bus, the workers, the services' ports, the gateway last.
Stopping goes the other way round, so that nothing is asked of what has gone.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from memepool_common.db import Database
from memepool_common.events import Bus
from memepool_common.events.bus import UNROUTED_QUEUE
from memepool_common.migrations import migrate
from memepool_common.server import serving
from memepool_common.settings import DatabaseSettings
from memepool_sandbox.aitubo.app import AituboSettings, create_aitubo_app
from memepool_sandbox.chain.node import Node
from memepool_sandbox.chain_app import ChainSettings, create_chain_app
from memepool_sandbox.faults import Faults
from memepool_sandbox.inprocess_bus import InProcessBus, create_bus_tables
from memepool_sandbox.launcher import narrator
from memepool_sandbox.launcher.options import Options
from memepool_sandbox.launcher.secrets import Secrets, load_or_make
from memepool_sandbox.launcher.services import (
    DATABASES,
    Part,
    Surroundings,
    build_parts,
    choose_ports,
)
from memepool_sandbox.ports import HOST
from memepool_sandbox.postgres import PostgresServer, provision

BUS = "bus"
POOL_SIZE = 8
READY_TIMEOUT_S = 60.0
READY_POLL_S = 0.02
CHAIN_RATE_PER_S_MAX = 200
JOURNAL = "chain.journal"
STORE = "memes"
AITUBO = "aitubo"


@dataclass(frozen=True)
class System:
    """A running system: where to reach it, and what the demo and tests look into."""

    gateway_url: str
    chain_url: str
    services: Mapping[str, str]
    node: Node
    secrets: Secrets
    bus: Bus
    databases: Mapping[str, DatabaseSettings]


def prepare_databases(server: PostgresServer) -> dict[str, DatabaseSettings]:
    """Make and migrate the databases of the services and of the bus. Idempotent; blocks."""
    settings: dict[str, DatabaseSettings] = {}
    for name in (*DATABASES, BUS):
        provision(server, name)
        owner_url, app_role = server.url(name, f"{name}_owner"), f"{name}_app"
        if name == BUS:
            create_bus_tables(owner_url, app_role)
        else:
            migrate(f"memepool_{name}", owner_url, app_role)
        settings[name] = DatabaseSettings(
            url=SecretStr(server.url(name, app_role)), app_role=app_role, pool_size=POOL_SIZE
        )
    return settings


@contextlib.asynccontextmanager
async def running_system(
    options: Options,
    databases: Mapping[str, DatabaseSettings],
    *,
    wrap_bus: Callable[[Bus], Bus] = lambda bus: bus,
) -> AsyncIterator[System]:
    """The whole system, ready for its first request inside the block, drained after it.

    Args:
        options: ports and folder.
        databases: what `prepare_databases` gave.
        wrap_bus: for tests: the bus that everybody gets, around the real one.
    """
    secrets = load_or_make(options.data)
    async with contextlib.AsyncExitStack() as stack:
        node = await _open_world(stack, options, secrets)
        parts = build_parts(
            Surroundings(
                databases=databases,
                ports=choose_ports(options.port),
                secrets=secrets,
                chain_url=f"http://{HOST}:{options.chain_port}/v1/bsv",
                aitubo_url=f"http://{HOST}:{options.aitubo_port}",
                store=options.data / STORE,
            )
        )
        bus_database = Database.connect(databases[BUS], application_name="bus")
        stack.push_async_callback(bus_database.close)
        bus = wrap_bus(InProcessBus(bus_database))
        queues = [narrator.topology(), *(part.topology for part in parts)]
        await bus.declare({UNROUTED_QUEUE: []} | {k: v for q in queues for k, v in q.items()})
        await stack.enter_async_context(_working(parts, bus))
        for part in parts:
            http = part.settings.http
            for app, port in ((part.internal, http.internal_port), (part.public, http.port)):
                await stack.enter_async_context(serving(app, HOST, port))
        await _until_ready(parts)
        try:
            yield System(
                gateway_url=f"http://{HOST}:{options.port}",
                chain_url=f"http://{HOST}:{options.chain_port}",
                services={part.name: f"http://{HOST}:{part.settings.http.port}" for part in parts},
                node=node,
                secrets=secrets,
                bus=bus,
                databases=databases,
            )
        finally:
            for part in parts:
                part.probes.draining = True


async def _open_world(stack: contextlib.AsyncExitStack, options: Options, secrets: Secrets) -> Node:
    """The simulated chain and image AI; one control API makes both fail on order."""
    node = Node.open(options.data / JOURNAL)
    stack.callback(node.close)
    faults = Faults()
    chain = create_chain_app(node, ChainSettings(rate_per_s=CHAIN_RATE_PER_S_MAX), faults)
    aitubo = create_aitubo_app(
        options.data / AITUBO, AituboSettings(api_key=SecretStr(secrets.aitubo_key)), faults
    )
    for app, port in ((chain, options.chain_port), (aitubo, options.aitubo_port)):
        await stack.enter_async_context(serving(app, HOST, port))
    return node


@contextlib.asynccontextmanager
async def _working(parts: list[Part], bus: Bus) -> AsyncIterator[None]:
    """Run the workers; a worker that dies unexpectedly takes the system down, loudly."""
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as workers:
        for part in parts:
            workers.create_task(part.run_worker(bus, stopping), name=f"{part.name}-worker")
        try:
            yield
        finally:
            stopping.set()


async def _until_ready(parts: list[Part]) -> None:
    async with asyncio.timeout(READY_TIMEOUT_S):
        for part in parts:
            while await part.probes.failures():  # noqa: ASYNC110 - the probes are what one polls
                await asyncio.sleep(READY_POLL_S)


def make_data_folder(path: Path) -> None:
    """The folder of everything that survives a restart, closed to other users."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
