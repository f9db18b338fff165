"""Groups of settings that every service has; each service composes its own frozen `Settings`.

Environment names are `MEMEPOOL_<SERVICE>_<GROUP>__<FIELD>`. Nothing is read at import time.
"""

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import SettingsConfigDict


class Group(BaseModel):
    """A frozen group of settings; an unknown field is a mistake, not noise."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def environment(service: str) -> SettingsConfigDict:
    """How a service's `Settings` reads its environment."""
    return SettingsConfigDict(
        env_prefix=f"MEMEPOOL_{service.upper()}_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,  # a malformed secret is still a secret
    )


class DatabaseSettings(Group):
    """One PostgreSQL database, reached as the application role; the owner role migrates."""

    url: SecretStr
    owner_url: SecretStr | None = None
    app_role: str
    pool_size: int = Field(default=5, ge=1, le=100)
    pool_timeout_s: float = Field(default=5.0, gt=0)
    statement_timeout_s: float = Field(default=15.0, gt=0)
    lock_timeout_s: float = Field(default=5.0, gt=0)
    idle_in_transaction_timeout_s: float = Field(default=15.0, gt=0)


class HttpSettings(Group):
    """The two ports of a process: the public one, and the internal one (probes, metrics)."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    internal_port: int = Field(default=9000, ge=0, le=65535)
    body_bytes_max: int = Field(default=64 * 1024, gt=0)
    drain_delay_s: float = Field(default=0.0, ge=0, description="not ready, still accepting")
    drain_timeout_s: float = Field(default=20.0, gt=0)


class AuthnSettings(Group):
    """Where keys and ended sessions are read, and what a token must say."""

    internal_url: str
    issuer: str = "memepool-auth"
    audience: str = "memepool"
    poll_interval_s: float = Field(default=0.5, gt=0)
    stale_after_s: float = Field(default=5.0, gt=0)


class BusSettings(Group):
    """The message broker, reached as this service's own user."""

    url: SecretStr = Field(description="amqp://user:password@host:5672/vhost")


class TelemetrySettings(Group):
    """Logs, traces and metrics."""

    log_level: str = "INFO"
    log_json: bool = True
    otlp_endpoint: str | None = None
    sample_ratio: float = Field(default=0.1, ge=0, le=1)
