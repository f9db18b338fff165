"""The common tables, and a table to see effects in."""

from alembic import op

from memepool_common.tables import create_common_tables, drop_common_tables, grant

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    create_common_tables(op)
    op.execute("create table effect (name text not null, times int not null default 1)")
    grant(op, "effect", "select, insert, update, delete")


def downgrade() -> None:
    """Drop them."""
    op.execute("drop table effect")
    drop_common_tables(op)
