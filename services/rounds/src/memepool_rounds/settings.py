"""Settings of rounds; environment names are `MEMEPOOL_ROUNDS_<GROUP>__<FIELD>`."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from memepool_common.settings import (
    AuthnSettings,
    BusSettings,
    DatabaseSettings,
    Group,
    HttpSettings,
    HttpUrl,
    TelemetrySettings,
    environment,
)


class ChainSettings(Group):
    """Which chain is followed, and where it is heard of."""

    network: str = Field(default="main", pattern="^(main|test|regtest)$")
    source_url: HttpUrl = "https://api.whatsonchain.com/v1/bsv"
    source_path: str = Field(default="main", description="the network's name in the source's URL")
    api_key: SecretStr | None = None
    # The source allows 3 a second in all: this and payments stay below that together.
    rate_per_s: float = Field(default=0.9, gt=0)
    timeout_s: float = Field(default=10.0, gt=0)
    poll_interval_s: float = Field(default=2.0, gt=0)
    checkpoint_height: int | None = Field(default=None, ge=0)
    checkpoint_hash: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")


class RoundSettings(Group):
    """How rounds run, and their limits."""

    minimum_age_s: float = Field(default=30.0, ge=0)
    closing_timeout_s: float = Field(default=30.0, gt=0)
    tick_interval_s: float = Field(default=0.25, gt=0)
    final_depth: int = Field(default=6, ge=2, le=100)
    submissions_max: int = Field(default=100, ge=1, le=100)
    queue_max: int = Field(default=1_000, ge=1)
    votes_max: int = Field(default=1_000_000, ge=1)


class WaitSettings(Group):
    """How long a request may wait for what is under way."""

    vote_s_max: float = Field(default=10.0, ge=0)
    projection_s_max: float = Field(default=2.0, ge=0)
    poll_interval_s: float = Field(default=0.02, gt=0)


class Settings(BaseSettings):
    """All of it."""

    model_config = environment("rounds")

    http: HttpSettings = HttpSettings()
    database: DatabaseSettings
    authn: AuthnSettings
    telemetry: TelemetrySettings = TelemetrySettings()
    bus: BusSettings | None = None
    chain: ChainSettings = ChainSettings()
    rounds: RoundSettings = RoundSettings()
    wait: WaitSettings = WaitSettings()
