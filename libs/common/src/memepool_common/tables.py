"""The tables that every service has: outbox, inbox, audit log, idempotency keys."""

from typing import Any, Protocol

from sqlalchemy import BigInteger, DateTime, column, table
from sqlalchemy.dialects.postgresql import JSONB

# What statements are composed of; the tables' shape stands in the SQL below, once.
outbox = table(
    "outbox",
    *map(column, ("event_id", "event_type", "subject", "version", "audience", "payload")),
    *map(column, ("traceparent", "occurred_at")),
)
audit_log = table(
    "audit_log",
    column("id", BigInteger),
    *map(column, ("at", "actor_id", "account_id", "action", "subject", "outcome", "address")),
    column("details", JSONB),
)
idempotency_key = table(
    "idempotency_key",
    *map(column, ("scope", "operation", "key", "request_hash", "status", "body")),
    column("created_at", DateTime(timezone=True)),
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
    for name, rights in _COMMON_GRANTS.items():
        grant(op, name, rights)


def drop_common_tables(op: Operations) -> None:
    """Undo `create_common_tables`."""
    for name in _COMMON_GRANTS:
        op.execute(f"drop table {name}")
