"""Holds.

Revision ID: 0005
Revises: 0004
"""

from importlib.resources import files

from alembic import op

from memepool_common.tables import grant

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create their table."""
    sql = files("memepool_payments") / "migrations" / "sql" / "0005_holds.sql"
    op.execute(sql.read_text(encoding="utf-8"))
    grant(op, "hold", "select, insert, update (state, posted_amount, closed_at)")


def downgrade() -> None:
    """Drop it."""
    op.execute("drop table hold")
