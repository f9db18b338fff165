"""Sealed blocks over the journals; the stop that a broken invariant puts on withdrawals.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

from memepool_common.tables import grant

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create both."""
    op.execute("""
        create table audit_block (
          seq bigint primary key,
          first_journal bigint not null unique,
          last_journal bigint not null check (last_journal >= first_journal),
          journals bigint not null,
          movements bigint not null,
          prev_hash bytea not null unique,
          rows_hash bytea not null,
          hash bytea not null unique,
          sealed_at timestamptz not null default now()
        )""")
    op.execute("""
        create trigger audit_block_append_only before update or delete or truncate on audit_block
          for each statement execute function refuse_change()""")
    op.execute("""
        create table withdrawal_stop (
          only_one boolean primary key default true check (only_one),
          reason text not null,
          stopped_at timestamptz not null default now()
        )""")
    grant(op, "audit_block", "select, insert")
    grant(op, "withdrawal_stop", "select, insert")


def downgrade() -> None:
    """Drop both."""
    op.execute("drop table withdrawal_stop")
    op.execute("drop table audit_block")
