"""The commands of every service: `python -m memepool_<service> api|worker|migrate|…`."""

import argparse
import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import NoReturn, Protocol, TypeVar

import uvloop
from pydantic import ValidationError
from pydantic_settings import SettingsError
from starlette.types import ASGIApp

from memepool_common import telemetry
from memepool_common.db import Database
from memepool_common.events import Bus
from memepool_common.events.bus import Topology
from memepool_common.events.rabbitmq import RabbitBus
from memepool_common.events.replay import replay_dead_letters
from memepool_common.events.republish import republish
from memepool_common.migrations import migrate
from memepool_common.server import CannotListenError, serving, stop_on_signals
from memepool_common.settings import (
    BadSettingsError,
    BusSettings,
    DatabaseSettings,
    HttpSettings,
    TelemetrySettings,
)
from memepool_common.web.app import Probes, internal_app
from memepool_common.worker import run_on_broker

Apps = tuple[ASGIApp, ASGIApp]
"""The public and the internal application of a process."""

EXIT_USAGE = 2


class ProcessSettings(Protocol):
    """The groups that every process has; a service with a database has that group too."""

    @property
    def http(self) -> HttpSettings:
        """Ports and limits."""
        ...

    @property
    def telemetry(self) -> TelemetrySettings:
        """Logs, traces, metrics."""
        ...

    @property
    def bus(self) -> BusSettings | None:
        """The broker; a process that only serves requests needs none."""
        ...


AnySettings = TypeVar("AnySettings", bound=ProcessSettings)
RunWorker = Callable[[AnySettings, Bus, Probes, asyncio.Event], Awaitable[None]]


def main(
    service: str,
    read_settings: Callable[[], AnySettings],
    create_apps: Callable[[AnySettings, Probes], Apps],
    run_worker: RunWorker[AnySettings] | None = None,
    topology: Callable[[], Topology] = dict,
    extra: Mapping[str, Callable[[AnySettings], Awaitable[str]]] | None = None,
) -> None:
    """Run one command of a service, with settings from the environment; exit 2 if they are bad.

    Args:
        service: its name.
        read_settings: its `Settings`.
        create_apps: the two applications of its API process.
        run_worker: its `worker.run`; without one there is no `worker` command, nor a database.
        topology: the queues that its worker consumes.
        extra: what an operator runs by hand; each returns a line to print.
    """
    extra = extra or {}
    told = _parser(service, run_worker is not None, topology, extra).parse_args()
    try:
        settings = read_settings()
    except ValidationError as error:
        _complain(*_by_name(service, error))
    except SettingsError as error:  # a list that is not JSON
        _complain(f"MEMEPOOL_{service.upper()}_…: {error}: {error.__cause__}")
    telemetry.setup(service, settings.telemetry)
    try:
        if told.command in extra:
            line = uvloop.run(_awaited(extra[told.command](settings)))
            sys.stdout.write(f"{line}\n")
        elif told.command == "worker" and run_worker is not None:
            bus = settings.bus or _missing(service, "BUS__URL")
            uvloop.run(_work(service, settings, bus, run_worker, topology()))
        elif told.command == "api":
            probes = Probes()
            uvloop.run(_serve(settings, create_apps(settings, probes), probes))
        else:
            _by_hand(service, settings, told)
    except (BadSettingsError, CannotListenError) as error:
        _complain(str(error))


def _parser(
    service: str,
    has_worker: bool,
    topology: Callable[[], Topology],
    extra: Mapping[str, Callable[[AnySettings], Awaitable[str]]],
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m memepool_{service}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("api", help="serve the public and the internal port")
    if has_worker:
        commands.add_parser("worker", help="relay, consumers and schedulers; the internal port")
        commands.add_parser("migrate", help="bring the database up to date, under the owner role")
        replay = commands.add_parser("replay", help="give a queue its dead letters back")
        replay.add_argument("queue", choices=sorted(topology()))
        republishing = commands.add_parser(
            "republish", help="send a queue again what this service has said"
        )
        republishing.add_argument("queue", help="of any service, as in `contracts/topology.json`")
        republishing.add_argument("--since", type=_instant, help="only from then on (RFC 3339)")
    for name, act in extra.items():
        commands.add_parser(name, help=(act.__doc__ or "").partition(";")[0])
    return parser


def _by_hand(service: str, settings: ProcessSettings, told: argparse.Namespace) -> None:
    if told.command == "migrate":
        _migrate(service, _database_of(service, settings))
        return
    bus = settings.bus or _missing(service, "BUS__URL")
    if told.command == "replay":
        count = uvloop.run(_replay(service, bus, told.queue))
        sys.stdout.write(f"{count} sent to {told.queue} again\n")
        return
    database = _database_of(service, settings)
    try:
        count = uvloop.run(_republish(service, database, bus, told.queue, told.since))
    except LookupError as error:
        sys.exit(f"{error}")
    sys.stdout.write(f"{count} of {service}'s events sent to {told.queue} again\n")


async def _awaited(line: Awaitable[str]) -> str:
    return await line


def _complain(*lines: str) -> NoReturn:
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.exit(EXIT_USAGE)


def _by_name(service: str, error: ValidationError) -> list[str]:
    """What is wrong, by the names that the environment has; no value, which may be a secret."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    prefix = f"MEMEPOOL_{service.upper()}_"
    return [
        f"{prefix}{'__'.join(map(str, each['loc'])).upper()}:"
        f" {each['msg'].removeprefix('Value error, ')}"
        for each in found
    ]


def _missing(service: str, name: str) -> NoReturn:
    _complain(f"MEMEPOOL_{service.upper()}_{name} is not set")


def _instant(value: str) -> datetime:
    instant = datetime.fromisoformat(value)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _database_of(service: str, settings: ProcessSettings) -> DatabaseSettings:
    database: DatabaseSettings | None = getattr(settings, "database", None)
    return database or sys.exit(f"{service} has no database")


def _migrate(service: str, database: DatabaseSettings) -> None:
    if database.owner_url is None:
        _missing(service, "DATABASE__OWNER_URL")
    owner_url = database.owner_url.get_secret_value()
    migrate(f"memepool_{service}", owner_url, database.app_role)


async def _serve(settings: ProcessSettings, apps: Apps, probes: Probes) -> None:
    stopping = stop_on_signals()
    public, internal = apps
    http = settings.http
    async with (
        serving(internal, http.host, http.internal_port),
        serving(public, http.host, http.port, drain_timeout_s=http.drain_timeout_s),
    ):
        _leave_alone_what_stays()
        await stopping.wait()
        probes.draining = True
        await asyncio.sleep(http.drain_delay_s)


async def _work(
    service: str,
    settings: AnySettings,
    bus_settings: BusSettings,
    run_worker: RunWorker[AnySettings],
    topology: Topology,
) -> None:
    stopping = stop_on_signals()
    probes = Probes()

    async def run(bus: Bus) -> None:
        await run_worker(settings, bus, probes, stopping)

    async with serving(internal_app(probes), settings.http.host, settings.http.internal_port):
        _leave_alone_what_stays()
        name = f"{service}-worker"
        await run_on_broker(run, bus_settings, topology, probes, stopping, name=name)


def _leave_alone_what_stays() -> None:
    """What was loaded by now stays until the end: looking for garbage in all of it again and again
    would stop the process for tens of milliseconds each time."""
    gc.collect()
    gc.freeze()


async def _replay(service: str, settings: BusSettings, queue: str) -> int:
    bus = RabbitBus(settings.url.get_secret_value(), name=f"{service}-replay")
    try:
        return await replay_dead_letters(bus, queue)
    finally:
        await bus.close()


async def _republish(
    service: str, database: DatabaseSettings, bus: BusSettings, queue: str, since: datetime | None
) -> int:
    outbox = Database.connect(database, application_name=f"{service}-republish")
    rabbit = RabbitBus(bus.url.get_secret_value(), name=f"{service}-republish")
    try:
        return await republish(outbox, rabbit, f"/{service}", queue, since)
    finally:
        await rabbit.close()
        await outbox.close()
