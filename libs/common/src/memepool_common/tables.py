"""The tables that every service has: outbox, inbox, audit log, idempotency keys."""

from typing import Any, Protocol

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

common_metadata = MetaData()

outbox = Table(
    "outbox",
    common_metadata,
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("event_id", Uuid, nullable=False, unique=True),
    Column("event_type", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("audience", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("traceparent", Text),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("attempts", SmallInteger, nullable=False, server_default="0"),
    Column("available_at", DateTime(timezone=True), nullable=False, server_default="now()"),
    Column("published_at", DateTime(timezone=True)),
    Column("last_error", Text),
)

inbox = Table(
    "inbox",
    common_metadata,
    Column("consumer", Text, primary_key=True),
    Column("event_id", Uuid, primary_key=True),
    Column("processed_at", DateTime(timezone=True), nullable=False, server_default="now()"),
)

audit_log = Table(
    "audit_log",
    common_metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("actor_id", Uuid),
    Column("account_id", Uuid),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("address", Text),
    Column("details", JSONB, nullable=False, server_default="{}"),
)

idempotency_key = Table(
    "idempotency_key",
    common_metadata,
    Column("scope", Text, primary_key=True),
    Column("operation", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_hash", LargeBinary, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default="now()"),
)

_OUTBOX_SQL = """
create table outbox (
  seq bigint generated always as identity primary key,
  event_id uuid not null unique,
  event_type text not null,
  subject text not null,
  version bigint not null,
  audience text not null,
  payload bytea not null,
  traceparent text,
  occurred_at timestamptz not null,
  attempts smallint not null default 0,
  available_at timestamptz not null default now(),
  published_at timestamptz,
  last_error text
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000)
"""

_COMMON_SQL = (
    _OUTBOX_SQL,
    "create index outbox_pending on outbox (seq) where published_at is null",
    """
create table inbox (
  consumer text not null,
  event_id uuid not null,
  processed_at timestamptz not null default now(),
  primary key (consumer, event_id)
)
""",
    """
create table audit_log (
  id bigint generated always as identity primary key,
  at timestamptz not null,
  actor_id uuid,
  account_id uuid,
  action text not null,
  subject text not null,
  outcome text not null,
  address text,
  details jsonb not null default '{}'
)
""",
    "create index audit_log_account on audit_log (account_id, id desc)",
    """
create table idempotency_key (
  scope text not null,
  operation text not null,
  key text not null,
  request_hash bytea not null,
  status smallint not null,
  body bytea not null,
  created_at timestamptz not null default now(),
  primary key (scope, operation, key)
)
""",
    "create index idempotency_key_age on idempotency_key (created_at)",
)

_COMMON_GRANTS = {
    "outbox": "select, insert, update, delete",
    "inbox": "select, insert, delete",
    "audit_log": "select, insert",
    "idempotency_key": "select, insert, delete",
}


class Operations(Protocol):
    """What we need of `alembic.op`."""

    def execute(self, sqltext: str) -> None:
        """Run a statement."""
        ...

    def get_context(self) -> Any:
        """The migration under way."""
        ...


def grant(op: Operations, table: str, rights: str) -> None:
    """Give the application role these rights on a table; it has no others."""
    config = op.get_context().config
    if config is None:
        msg = "migrations run through memepool_common.migrations.migrate"
        raise RuntimeError(msg)
    op.execute(f'grant {rights} on {table} to "{config.attributes["app_role"]}"')


def create_common_tables(op: Operations) -> None:
    """Version 1 of the tables that every service has. The audit log is append-only by grant."""
    for statement in _COMMON_SQL:
        op.execute(statement)
    for table, rights in _COMMON_GRANTS.items():
        grant(op, table, rights)


def drop_common_tables(op: Operations) -> None:
    """Undo `create_common_tables`."""
    for table in _COMMON_GRANTS:
        op.execute(f"drop table {table}")
