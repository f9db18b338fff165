"""The tables that queries are built on."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Float,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import ARRAY

metadata = MetaData()

content = Table(
    "content",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("creator_id", Uuid, nullable=False),
    Column("title", Text),
    Column("description", Text),
    Column("tags", ARRAY(Text), nullable=False),
    Column("status", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("mime_type", Text),
    Column("width", Integer),
    Column("height", Integer),
    Column("frames", Integer),
    Column("size_bytes", BigInteger),
    Column("sha256", Text),
    Column("quality", Float),
    Column("rejection_code", Text),
    Column("rejection_detail", Text),
    Column("removed_by", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("transformation_id", Uuid),
)


def _renditions(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("content_id", Uuid, primary_key=True),
        Column("version", Integer, primary_key=True),
        Column("name", Text, primary_key=True),
        Column("mime_type", Text, nullable=False),
        Column("width", Integer, nullable=False),
        Column("height", Integer, nullable=False),
        Column("size_bytes", BigInteger, nullable=False),
        Column("sha256", Text, nullable=False),
    )


variant = _renditions("variant")
alternative = _renditions("alternative")

report = Table(
    "report",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("content_id", Uuid, nullable=False),
    Column("reporter_id", Uuid, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text),
    Column("state", Text, nullable=False),
    Column("decided_by", Uuid),
    Column("decision_reason", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("decided_at", DateTime(timezone=True)),
)

transformation = Table(
    "transformation",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("content_id", Uuid, nullable=False),
    Column("creator_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("style", Text),
    Column("strength", Float),
    Column("state", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("progress_percent", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("remote_id", Text),
    Column("credits_consumed", Integer),
    Column("upload_key", Text),
    Column("version", Integer),
    Column("error", Text),
    Column("error_detail", Text),
    Column("available_at", DateTime(timezone=True), nullable=False),
    Column("lease_id", Uuid),
    Column("leased_until", DateTime(timezone=True)),
    Column("submitted_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)
