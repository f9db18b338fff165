"""The commands of every service: `python -m memepool_<service> api|migrate`."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from typing import Protocol, TypeVar

import uvloop
from pydantic import ValidationError
from starlette.types import ASGIApp

from memepool_common import telemetry
from memepool_common.migrations import migrate
from memepool_common.server import serving, stop_on_signals
from memepool_common.settings import DatabaseSettings, HttpSettings, TelemetrySettings
from memepool_common.web.app import Probes

Apps = tuple[ASGIApp, ASGIApp]
"""The public and the internal application of a process."""


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


AnySettings = TypeVar("AnySettings", bound=ProcessSettings)


def main(
    service: str,
    read_settings: Callable[[], AnySettings],
    create_apps: Callable[[AnySettings, Probes], Apps],
) -> None:
    """Run one command of a service, with settings from the environment; exit 2 if they are bad."""
    parser = argparse.ArgumentParser(prog=f"python -m memepool_{service}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("api", help="serve the public and the internal port")
    commands.add_parser("migrate", help="bring the database up to date, under the owner role")
    command = parser.parse_args().command
    try:
        settings = read_settings()
    except ValidationError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    telemetry.setup(service, settings.telemetry)
    if command == "migrate":
        _migrate(service, getattr(settings, "database", None))
        return
    probes = Probes()
    uvloop.run(_serve(settings, create_apps(settings, probes), probes))


def _migrate(service: str, database: DatabaseSettings | None) -> None:
    if database is None:
        sys.exit(f"{service} has no database")
    if database.owner_url is None:
        sys.exit(f"MEMEPOOL_{service.upper()}_DATABASE__OWNER_URL is not set")
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
        await stopping.wait()
        probes.draining = True
        await asyncio.sleep(http.drain_delay_s)
