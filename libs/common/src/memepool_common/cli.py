"""The commands of every service: `python -m memepool_<service> api|migrate`."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from typing import TypeVar

import uvloop
from pydantic import ValidationError
from starlette.types import ASGIApp

from memepool_common import telemetry
from memepool_common.migrations import migrate
from memepool_common.server import serving, stop_on_signals
from memepool_common.web.app import Probes
from memepool_common.web.lifespan import ServiceSettings

Apps = tuple[ASGIApp, ASGIApp]
"""The public and the internal application of a process."""
AnySettings = TypeVar("AnySettings", bound=ServiceSettings)


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
        if settings.database.owner_url is None:
            sys.exit(f"MEMEPOOL_{service.upper()}_DATABASE__OWNER_URL is not set")
        owner_url = settings.database.owner_url.get_secret_value()
        migrate(f"memepool_{service}", owner_url, settings.database.app_role)
        return
    probes = Probes()
    uvloop.run(_serve(settings, create_apps(settings, probes), probes))


async def _serve(settings: ServiceSettings, apps: Apps, probes: Probes) -> None:
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
