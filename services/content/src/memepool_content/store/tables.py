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
)

variant = Table(
    "variant",
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
