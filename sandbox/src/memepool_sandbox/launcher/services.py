"""Every service with its settings for one machine. This is all that differs from production."""

import asyncio
import base64
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from starlette.types import ASGIApp

import memepool_auth.app
import memepool_auth.settings as auth_settings
import memepool_auth.worker
import memepool_content.app
import memepool_content.settings as content_settings
import memepool_content.worker
import memepool_gateway.app
import memepool_gateway.settings as gateway_settings
import memepool_gateway.worker
import memepool_payments.app
import memepool_payments.settings as payments_settings
import memepool_payments.worker
import memepool_rounds.app
import memepool_rounds.settings as rounds_settings
import memepool_rounds.worker
from memepool_common.events import Bus
from memepool_common.settings import (
    AuthnSettings,
    DatabaseSettings,
    HttpSettings,
    TelemetrySettings,
)
from memepool_common.web.app import Probes
from memepool_gateway.stream import MemoryStream
from memepool_sandbox.launcher.secrets import Secrets
from memepool_sandbox.ports import HOST, free_ports

DATABASES = ("auth", "content", "rounds", "payments")
SERVICES = (*DATABASES, "gateway")
NETWORK = "regtest"
CHAIN_RATE_PER_S = 50.0
CHAIN_POLL_INTERVAL_S = 0.25
DEPOSIT_SCAN_INTERVAL_S = 1.0
AUTH_STALE_AFTER_S = 60.0  # a busy desk is no outage of auth
AITUBO_POLL_INTERVAL_S = 0.5
MINIMUM_ROUND_AGE_S = 2.0
TELEMETRY = TelemetrySettings(log_level="WARNING", log_json=False)
RATES = gateway_settings.RateSettings(  # all players call from one address
    read=gateway_settings.Rate(per_address=1_000_000, per_user=100_000),
    write=gateway_settings.Rate(per_address=1_000_000, per_user=100_000),
    sign_in=gateway_settings.Rate(per_address=10_000),
    upload=gateway_settings.Rate(per_address=10_000, per_user=1_000),
)

RunWorker = Callable[[Bus, asyncio.Event], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Part:
    """One service: its settings, its two applications, and its worker."""

    name: str
    settings: Any
    public: ASGIApp
    internal: ASGIApp
    probes: Probes
    topology: Mapping[str, list[str]]
    run_worker: RunWorker


@dataclass(frozen=True)
class Surroundings:
    """What the services are told of each other and of the world."""

    databases: Mapping[str, DatabaseSettings]
    ports: Mapping[str, HttpSettings]
    secrets: Secrets
    chain_url: str
    aitubo_url: str
    store: Path

    @property
    def authn(self) -> AuthnSettings:
        """Where keys and ended sessions are read."""
        url = f"http://{HOST}:{self.ports['auth'].internal_port}"
        return AuthnSettings(internal_url=url, stale_after_s=AUTH_STALE_AFTER_S)

    def url(self, service: str) -> str:
        """Where a service answers."""
        return f"http://{HOST}:{self.ports[service].port}"

    def common(self, service: str) -> dict[str, Any]:
        """The groups of settings that all services with a database have."""
        return {
            "http": self.ports[service],
            "database": self.databases[service],
            "authn": self.authn,
            "telemetry": TELEMETRY,
        }


def choose_ports(gateway_port: int) -> dict[str, HttpSettings]:
    """The gateway's port as told, all others free ones of the loopback address."""
    free = free_ports(2 * len(SERVICES))
    ports = {
        name: HttpSettings(host=HOST, port=free[2 * i], internal_port=free[2 * i + 1])
        for i, name in enumerate(SERVICES)
    }
    gateway = ports["gateway"].model_copy(update={"port": gateway_port})
    return ports | {"gateway": gateway}


def build_parts(around: Surroundings) -> list[Part]:
    """All services in the order of starting: auth first, whom all follow; the gateway last."""
    return [
        _auth(around),
        _content(around),
        _rounds(around),
        _payments(around),
        _gateway(around),
    ]


def _auth(around: Surroundings) -> Part:
    sealing_key = base64.b64encode(bytes.fromhex(around.secrets.key_encryption_key))
    settings = auth_settings.Settings(
        **around.common("auth"),
        sign_in=auth_settings.SignInSettings(
            domain=f"{HOST}:{around.ports['gateway'].port}",
            network=NETWORK,
            challenges_per_address_max=100_000,  # all players sign in from one address
            address_failures_free=100_000,
            browser_origins=(f"http://{HOST}:{around.ports['gateway'].port}",),
        ),
        keys=auth_settings.KeySettings(encryption_key=SecretStr(sealing_key.decode())),
    )
    return _part("auth", memepool_auth, settings)


def _content(around: Surroundings) -> Part:
    settings = content_settings.Settings(
        **around.common("content"),
        store=content_settings.StoreSettings(folder=around.store),
        processor=content_settings.ProcessorSettings(processes=2),
        aitubo=content_settings.AituboSettings(
            base_url=around.aitubo_url,
            api_key=SecretStr(around.secrets.aitubo_key),
            poll_interval_s=AITUBO_POLL_INTERVAL_S,
            poll_interval_max_s=1.0,
            result_origins=(around.aitubo_url,),
            source_base_url=around.url("gateway"),
            source_key=SecretStr(around.secrets.source_key),
        ),
    )
    return _part("content", memepool_content, settings)


def _rounds(around: Surroundings) -> Part:
    settings = rounds_settings.Settings(
        **around.common("rounds"),
        chain=rounds_settings.ChainSettings(
            network=NETWORK,
            source_url=around.chain_url,
            rate_per_s=CHAIN_RATE_PER_S,
            poll_interval_s=CHAIN_POLL_INTERVAL_S,
        ),
        rounds=rounds_settings.RoundSettings(minimum_age_s=MINIMUM_ROUND_AGE_S),
    )
    return _part("rounds", memepool_rounds, settings)


def _payments(around: Surroundings) -> Part:
    settings = payments_settings.Settings(
        **around.common("payments"),
        chain=payments_settings.ChainSettings(
            network=NETWORK,
            source_url=around.chain_url,
            source_rate_per_s=CHAIN_RATE_PER_S,
            deposit_xpub=around.secrets.deposit_xpub,
            scan_interval_s=DEPOSIT_SCAN_INTERVAL_S,
        ),
        work=payments_settings.WorkSettings(deposits_interval_s=CHAIN_POLL_INTERVAL_S),
    )
    return _part("payments", memepool_payments, settings)


def _gateway(around: Surroundings) -> Part:
    settings = gateway_settings.Settings(
        http=around.ports["gateway"],
        authn=around.authn,
        telemetry=TELEMETRY,
        upstreams=gateway_settings.UpstreamSettings(
            **{service: around.url(service) for service in DATABASES}
        ),
        rates=RATES,
    )
    probes = Probes()
    stream = MemoryStream(settings.stream)
    public, internal = memepool_gateway.app.create_apps(settings, probes, stream)

    async def work(bus: Bus, stopping: asyncio.Event) -> None:
        await memepool_gateway.worker.run(settings, bus, probes, stopping, stream)

    topology = memepool_gateway.worker.topology()
    return Part("gateway", settings, public, internal, probes, topology, work)


def _part(name: str, package: Any, settings: Any) -> Part:
    probes = Probes()
    public, internal = package.app.create_apps(settings, probes)

    async def work(bus: Bus, stopping: asyncio.Event) -> None:
        await package.worker.run(settings, bus, probes, stopping)

    topology = package.worker.topology()
    return Part(name, settings, public, internal, probes, topology, work)
