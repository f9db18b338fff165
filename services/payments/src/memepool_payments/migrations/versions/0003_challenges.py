"""Challenges for wallets to sign.

Revision ID: 0003
Revises: 0002
"""

from importlib.resources import files

from alembic import op

from memepool_common.tables import grant

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SQL = files("memepool_payments") / "migrations" / "sql"


def upgrade() -> None:
    """Create them."""
    op.execute((SQL / "0003_challenges.sql").read_text(encoding="utf-8"))
    grant(op, "signature_challenge", "select, insert, delete")


def downgrade() -> None:
    """Drop them."""
    op.execute("drop table signature_challenge")
