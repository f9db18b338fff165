"""Groups of settings that every service has; each service composes its own frozen `Settings`.

Environment names are `MEMEPOOL_<SERVICE>_<GROUP>__<FIELD>`. Nothing is read at import time.
"""

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import SettingsConfigDict


class BadSettingsError(ValueError):
    """Settings of which each is well formed, and which cannot be worked with."""


class Group(BaseModel):
    """A frozen group of settings; an unknown field is a mistake, not noise."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def address(*schemes: str) -> AfterValidator:
    """A check that a setting is a URL of one of these schemes.

    Its message does not repeat the value, which may hold a password.
    """
    wanted = " or ".join(f"{scheme}://host" for scheme in schemes)

    def check(value: Any) -> Any:
        url = value.get_secret_value() if isinstance(value, SecretStr) else value
        try:
            parts = urlsplit(url)
            fits = parts.scheme in schemes and bool(parts.netloc) and parts.port != 0
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"must be {wanted}, with a port that is a number if there is one")
        return value

    return AfterValidator(check)


HttpUrl = Annotated[str, address("http", "https")]
DatabaseUrl = Annotated[SecretStr, address("postgresql+psycopg")]


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

    url: DatabaseUrl
    owner_url: DatabaseUrl | None = None
    app_role: str
    pool_size: int = Field(default=5, ge=1, le=100)
    pool_timeout_s: float = Field(default=5.0, gt=0)
    statement_timeout_s: float = Field(default=15.0, ge=0.001, le=3600)
    lock_timeout_s: float = Field(default=5.0, ge=0.001, le=3600)
    idle_in_transaction_timeout_s: float = Field(default=15.0, ge=0.001, le=3600)


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

    internal_url: HttpUrl
    issuer: str = "memepool-auth"
    audience: str = "memepool"
    poll_interval_s: float = Field(default=0.5, gt=0)
    stale_after_s: float = Field(default=5.0, gt=0)


class BusSettings(Group):
    """The message broker, reached as this service's own user."""

    url: Annotated[SecretStr, address("amqp", "amqps")] = Field(
        description="amqp://user:password@host:5672/vhost"
    )


class TelemetrySettings(Group):
    """Logs, traces and metrics."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_json: bool = True
    otlp_endpoint: HttpUrl | None = None
    sample_ratio: float = Field(default=0.1, ge=0, le=1)
