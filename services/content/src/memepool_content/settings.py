"""Settings of the content service: `MEMEPOOL_CONTENT_<GROUP>__<FIELD>`."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, IPvAnyNetwork, SecretStr, model_validator
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


class S3Settings(Group):
    """A bucket of an S3-compatible store that honours `If-None-Match: *` on PUT."""

    bucket: str = Field(min_length=1)
    prefix: str = Field(default="", description="before every key")
    region: str = Field(default="us-east-1", min_length=1)
    endpoint: HttpUrl | None = Field(default=None, description="Amazon's own, unless given")
    virtual_hosted: bool = Field(default=False, description="the bucket is part of the host name")
    access_key_id: SecretStr
    secret_access_key: SecretStr
    encryption: Literal["AES256", "aws:kms"] | None = Field(
        default=None, description="server-side, asked for with every object"
    )
    kms_key_id: str | None = None
    connect_timeout_s: float = Field(default=5.0, gt=0)
    timeout_s: float = Field(default=30.0, gt=0)


class StoreSettings(Group):
    """Where the bytes are kept: a folder that API and worker share, or a bucket."""

    folder: Path | None = None
    s3: S3Settings | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.folder is None) == (self.s3 is None):
            raise ValueError("give either STORE__FOLDER or STORE__S3__BUCKET and its keys")
        return self


class UploadSettings(Group):
    """Limits on taking uploads in. Quotas count per user; a day is the last 24 hours."""

    file_bytes_max: int = Field(default=16 * 1024 * 1024, gt=0)
    field_bytes_max: int = Field(default=16 * 1024, gt=0)
    timeout_s: float = Field(default=120.0, gt=0)
    temporary_folder: Path | None = Field(default=None, description="the system's, unless given")
    concurrent_max: int = Field(default=64, gt=0, description="streams at once per process")
    queued_per_user_max: int = Field(
        default=5, gt=0, description="and as many being received, per process"
    )
    queued_max: int = Field(default=1_000, gt=0)
    daily_max: int = Field(default=200, gt=0)


class ImageSettings(Group):
    """Caps on what an image may claim, and the least quality; see `domain.image.Caps`."""

    side_px_min: int = Field(default=32, gt=0)
    side_px_max: int = Field(default=8_192, gt=0)
    pixels_max: int = Field(default=16_777_216, gt=0)
    webp_pixels_max: int = Field(default=12_582_912, gt=0, description="of WebP and AVIF")
    frames_max: int = Field(default=600, gt=0)
    animation_pixels_max: int = Field(default=60_000_000, gt=0)
    duration_ms_max: int = Field(default=60_000, gt=0)
    aspect_max: int = Field(default=8, gt=0)
    quality_min: float = Field(default=0.18, ge=0, le=1)


class ProcessorSettings(Group):
    """The image processes: how many, and what each may use for one image."""

    processes: int = Field(default=2, ge=1, le=64)
    cpu_s: int = Field(default=15, gt=0)
    wall_s: float = Field(default=60.0, gt=0)
    memory_bytes_max: int = Field(
        default=376 * 1024 * 1024,
        gt=0,
        description="of address space, of which 80 MB are never touched: under 300 MB of memory",
    )
    file_bytes_max: int = Field(default=64 * 1024 * 1024, gt=0)
    idle_s: float = Field(default=20.0, gt=0, description="then its memory is given back")


class JobSettings(Group):
    """The processing queue. A lease is renewed while its worker lives."""

    lease_s: float = Field(default=15.0, gt=0)
    attempts_max: int = Field(default=5, ge=1)
    retry_delay_s: float = Field(default=5.0, ge=0)
    poll_interval_s: float = Field(default=1.0, gt=0)
    erase_interval_s: float = Field(default=1.0, gt=0, description="of what must go")


class AituboSettings(Group):
    """The image AI, and the limits on what is asked of it. Quotas count per user."""

    base_url: HttpUrl = Field(default="https://api.aitubo.ai")
    api_key: SecretStr
    model_id: str | None = Field(default=None, description="unless a style names a model")
    connect_timeout_s: float = Field(default=5.0, gt=0)
    timeout_s: float = Field(default=15.0, gt=0, description="of a whole call")
    concurrent_max: int = Field(default=4, ge=1, description="jobs under way there, of all of us")
    poll_interval_s: float = Field(default=3.0, gt=0)
    poll_interval_max_s: float = Field(default=10.0, gt=0)
    deadline_s: float = Field(default=600.0, gt=0, description="from submission to the result")
    queue_deadline_s: float = Field(default=3600.0, gt=0, description="until submission")
    retry_delay_s: float = Field(default=5.0, ge=0)
    failures_max: int = Field(default=5, ge=1, description="in a row, before the circuit opens")
    open_s: float = Field(default=30.0, gt=0, description="of an open circuit")
    result_origins: tuple[HttpUrl, ...] = Field(
        default=("https://file.aitubo.ai",),
        description="where results may lie: scheme, host, port; an address may be a private one",
    )
    result_networks: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description="private ones that the names among them may lead to"
    )
    result_bytes_max: int = Field(default=16 * 1024 * 1024, gt=0)
    result_timeout_s: float = Field(default=30.0, gt=0)
    source_base_url: HttpUrl = Field(description="where the image AI reaches our API")
    source_key: SecretStr = Field(min_length=32, description="signs those addresses, nothing else")
    source_ttl_s: int = Field(default=600, gt=0, le=600)
    open_per_user_max: int = Field(default=5, ge=1)
    daily_max: int = Field(default=50, ge=1)


class Settings(BaseSettings):
    """Everything that the content service can be told."""

    model_config = environment("content")

    http: HttpSettings = HttpSettings()
    database: DatabaseSettings
    authn: AuthnSettings
    telemetry: TelemetrySettings = TelemetrySettings()
    bus: BusSettings | None = None
    store: StoreSettings
    uploads: UploadSettings = UploadSettings()
    images: ImageSettings = ImageSettings()
    processor: ProcessorSettings = ProcessorSettings()
    jobs: JobSettings = JobSettings()
    aitubo: AituboSettings | None = None
