"""Settings of the gateway."""

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from memepool_common.settings import (
    AuthnSettings,
    BusSettings,
    Group,
    HttpSettings,
    HttpUrl,
    TelemetrySettings,
    address,
    environment,
)

MIB = 1024 * 1024


class UpstreamSettings(Group):
    """Where the services answer, and how hard the gateway leans on each."""

    auth: HttpUrl
    content: HttpUrl
    rounds: HttpUrl
    payments: HttpUrl
    connections_max: int = Field(default=200, ge=1, description="to one service, at a time")
    connect_timeout_s: float = Field(default=2.0, gt=0, description="with the wait for a free one")
    idle_connection_s: float = Field(
        default=15.0, gt=0, description="below what services keep, so that none is found dead"
    )
    failures_max: int = Field(default=5, ge=1, description="in a row, before the circuit opens")
    open_s: float = Field(default=1.0, gt=0, description="of an open circuit")

    @field_validator("auth", "content", "rounds", "payments")
    @classmethod
    def _origin(cls, url: str) -> str:
        if "/" in url.partition("://")[2].rstrip("/"):
            raise ValueError("must not have a path")
        return url.rstrip("/")

    def urls(self) -> dict[str, str]:
        """The address of each service."""
        return {name: getattr(self, name) for name in ("auth", "content", "rounds", "payments")}


class LimitSettings(Group):
    """What one exchange may cost."""

    body_bytes_max: int = Field(default=64 * 1024, gt=0)
    upload_bytes_max: int = Field(
        default=16 * MIB + 128 * 1024, gt=0, description="a file, and the form around it"
    )
    answer_bytes_max: int = Field(default=512 * MIB, gt=0)
    answer_timeout_s: float = Field(default=15.0, gt=0, description="to the answer's next byte")
    body_timeout_s: float = Field(default=20.0, gt=0, description="to the body's next byte")
    exchange_timeout_s: float = Field(default=300.0, gt=0, description="from first to last byte")
    cache_life_s: float = Field(
        default=1.0, gt=0, le=10, description="of public reads that many ask for"
    )


class Rate(Group):
    """Calls within a window; None: not counted."""

    per_address: int = Field(ge=1, description="an IPv4 address, or the /64 of an IPv6 one")
    per_user: int | None = Field(default=None, ge=1, description="on top, for calls with a token")


class RateSettings(Group):
    """How many calls of each kind a client has. An address may be a whole household or office."""

    window_s: int = Field(default=60, ge=1, le=3600)
    read: Rate = Rate(per_address=3_000, per_user=1_200)
    write: Rate = Rate(per_address=1_200, per_user=300)
    sign_in: Rate = Rate(per_address=120)  # a sign-in takes two or three, a refresh one
    upload: Rate = Rate(per_address=60, per_user=20)


class RedisSettings(Group):
    """What the replicas and the worker share: counters of calls, the stream's recent past."""

    url: Annotated[SecretStr, address("redis", "rediss")] = Field(
        description="redis://user:password@host:6379/0"
    )
    timeout_s: float = Field(default=0.25, gt=0, description="to the answer, with connecting")
    connections_max: int = Field(default=50, ge=1, description="of a pool; there are two")


class EdgeSettings(Group):
    """How clients reach the gateway."""

    origins: tuple[str, ...] = Field(default=(), description="whose pages may call, exact")
    trusted_hops: int = Field(default=0, ge=0, le=10, description="proxies in front of us")


class StreamSettings(Group):
    """Limits of `GET /events`."""

    clients_max: int = Field(default=2_000, ge=1)
    clients_per_address_max: int = Field(default=100, ge=1)
    queue_entries_max: int = Field(default=512, ge=1, description="a slower client is dropped")
    history_entries_max: int = Field(default=10_000, ge=1)
    history_bytes_max: int = Field(default=16 * MIB, ge=1)
    heartbeat_s: float = Field(default=15.0, gt=0)
    tally_interval_s: float = Field(default=0.25, gt=0, description="between a round's tallies")


class Settings(BaseSettings):
    """All settings; environment `MEMEPOOL_GATEWAY_<GROUP>__<FIELD>`."""

    model_config = environment("gateway")

    http: HttpSettings = HttpSettings()
    upstreams: UpstreamSettings
    authn: AuthnSettings
    limits: LimitSettings = LimitSettings()
    rates: RateSettings = RateSettings()
    edge: EdgeSettings = EdgeSettings()
    stream: StreamSettings = StreamSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    bus: BusSettings | None = Field(default=None, description="where the live stream comes from")
    redis: RedisSettings | None = Field(default=None, description="without it: one process alone")
