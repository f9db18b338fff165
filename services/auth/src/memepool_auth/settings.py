"""Settings of auth, from `MEMEPOOL_AUTH_<GROUP>__<FIELD>`."""

import base64
import binascii
import hashlib
from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from memepool_chain.address import decode_p2pkh
from memepool_chain.network import network_named
from memepool_common.settings import (
    AuthnSettings,
    BusSettings,
    DatabaseSettings,
    Group,
    HttpSettings,
    TelemetrySettings,
    environment,
)

KEY_SIZE = 32


class SignInSettings(Group):
    """What a challenge says, and how many may be open."""

    domain: str = Field(
        pattern=r"^[a-z0-9]([a-z0-9.-]{0,98}[a-z0-9])?(:[0-9]{1,5})?$",
        description="where users believe to sign in; never taken from a request",
    )
    network: Literal["main", "test", "regtest"] = "main"
    statement: str = Field(
        default="Sign in to Memepool. This costs nothing and moves no money.",
        pattern=r"^[\x20-\x7e]{1,200}$",
    )
    first_admin: str | None = Field(
        default=None, description="the wallet address that becomes admin when it first signs in"
    )
    browser_origins: tuple[str, ...] = Field(
        default=(), description="whose pages may keep a session in a cookie; else https://domain"
    )
    challenges_per_address_max: int = Field(
        default=300, ge=1, description="open at a time; the oldest give way"
    )
    challenges_max: int = Field(
        default=100_000, ge=1, description="in 5 min, in all, or 1 % more; the oldest give way"
    )
    wallet_failures_free: int = Field(
        default=5, ge=1, description="bad signatures for a wallet from one address, before waits"
    )
    wallet_failures_everywhere_free: int = Field(
        default=50, ge=1, description="bad signatures for a wallet from anywhere, before waits"
    )
    address_failures_free: int = Field(
        default=50, ge=1, description="failed attempts from one address, before waits"
    )

    @field_validator("first_admin")
    @classmethod
    def _of_our_network(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and "network" in info.data:
            decode_p2pkh(value, network_named(info.data["network"]))
        return value

    @property
    def own_origins(self) -> tuple[str, ...]:
        """The origins of our own pages, as browsers write them."""
        return self.browser_origins or (f"https://{self.domain}",)


class KeySettings(Group):
    """How signing keys are kept."""

    encryption_key: SecretStr = Field(description="32 bytes in base64; seals private keys at rest")
    rotate_after_days: int = Field(default=30, ge=1, description="a new signing key by schedule")

    @field_validator("encryption_key")
    @classmethod
    def _of_right_size(cls, value: SecretStr) -> SecretStr:
        try:
            size = len(base64.b64decode(value.get_secret_value(), validate=True))
        except binascii.Error:
            size = 0
        if size != KEY_SIZE:
            msg = f"must be base64 of {KEY_SIZE} bytes"
            raise ValueError(msg)
        return value

    @property
    def encryption_key_bytes(self) -> bytes:
        """The key itself."""
        return base64.b64decode(self.encryption_key.get_secret_value())

    @property
    def address_secret(self) -> bytes:
        """What hides the addresses that limits are counted for; the same in all replicas."""
        return hashlib.sha256(b"memepool-auth addresses " + self.encryption_key_bytes).digest()


class Settings(BaseSettings):
    """All settings of the service."""

    model_config = environment("auth")

    http: HttpSettings = HttpSettings()
    database: DatabaseSettings
    authn: AuthnSettings
    telemetry: TelemetrySettings = TelemetrySettings()
    bus: BusSettings | None = None
    sign_in: SignInSettings
    keys: KeySettings
    trusted_hops: int = Field(
        default=1, ge=0, le=8, description="our own proxies in front: the gateway is one"
    )
