"""Settings of payments. Environment: MEMEPOOL_PAYMENTS_<GROUP>__<FIELD>."""

from typing import Literal

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
    """The chain, and the source that tells of it. Nothing that it says is believed unchecked.

    Attributes:
        network: whose addresses and proof-of-work rules hold.
        source_url: WhatsOnChain's API up to and without the network.
        source_network: its name for the network, in the path.
        checkpoint_height, checkpoint_hash: the trusted block that our headers start from; without
            a hash, the network's first block (not on networks that retarget).
        deposit_xpub: deposit addresses are its children 0/0, 0/1, ...; nothing here can spend.
        credit_confirmations: blocks until a deposit is credited.
        maturity_blocks: blocks until a credit of any kind may leave the platform.
        scan_interval_s: between looks at an address that is being watched.
        sweep_interval_s: between looks at any other address.
        watch_s: how long an address is watched after its owner asked for it, or it was paid.
    """

    network: Literal["main", "test", "regtest"] = "main"
    source_url: HttpUrl = "https://api.whatsonchain.com/v1/bsv"
    source_network: str = "main"
    source_api_key: SecretStr | None = None
    # The source allows 3 a second in all: this and rounds stay below that together.
    source_rate_per_s: float = Field(default=1.9, gt=0)
    source_timeout_s: float = Field(default=10.0, gt=0)
    checkpoint_height: int = Field(default=0, ge=0)
    checkpoint_hash: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    deposit_xpub: str
    credit_confirmations: int = Field(default=1, ge=1)
    maturity_blocks: int = Field(default=6, ge=1)
    scan_interval_s: float = Field(default=5.0, gt=0)
    sweep_interval_s: float = Field(default=3_600.0, gt=0)
    watch_s: float = Field(default=3_600.0, gt=0)


class MoneySettings(Group):
    """Limits in satoshis.

    Attributes:
        signed_transfer_from: transfers of at least this much need a wallet signature.
        transfer_fee: what a transfer costs its sender, beside the amount.
        sent_per_hour_max, transfers_per_hour_max: what one user may send by transfers, and how
            often, within an hour of the clock.
        fee_basis_points_max: the most that a round's policy may charge.
        network_fee_sats_per_kb: what our transactions pay.
        deposit_min, withdrawal_min: smaller ones are not taken.
    """

    signed_transfer_from: int = Field(default=100_000_000, ge=1)
    transfer_fee: int = Field(default=0, ge=0, le=100_000_000)
    sent_per_hour_max: int = Field(default=1_000_000_000, ge=1, le=21 * 10**14)
    transfers_per_hour_max: int = Field(default=1_000, ge=1, le=2**31 - 1)
    fee_basis_points_max: int = Field(default=200, ge=0, le=10_000)
    network_fee_sats_per_kb: int = Field(default=100, ge=1, le=1_000)
    deposit_min: int = Field(default=1, ge=1)
    withdrawal_min: int = Field(default=1_000, ge=1)


class WorkSettings(Group):
    """How often the worker looks for what is due."""

    distribution_interval_s: float = Field(default=0.2, gt=0)
    holds_interval_s: float = Field(default=1.0, gt=0)
    deposits_interval_s: float = Field(default=1.0, gt=0)
    seal_interval_s: float = Field(default=1.0, gt=0)
    reconcile_interval_s: float = Field(default=60.0, gt=0)


class Settings(BaseSettings):
    """Everything that a payments process needs to know."""

    model_config = environment("payments")

    http: HttpSettings = HttpSettings()
    database: DatabaseSettings
    authn: AuthnSettings
    chain: ChainSettings
    money: MoneySettings = MoneySettings()
    work: WorkSettings = WorkSettings()
    arc_callback_token: SecretStr | None = None
    telemetry: TelemetrySettings = TelemetrySettings()
    bus: BusSettings | None = None
