"""Votes are placed and counted by one statement per batch.

Revision ID: 0002
Revises: 0001
"""

from importlib.resources import files

from alembic import op

from memepool_common.tables import grant

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

FUNCTIONS = (
    (
        "place_votes(uuid[], bigint[], uuid[], uuid[], bigint[], text[], bytea[], bigint,"
        " timestamptz, uuid, text)"
    ),
    "count_votes(text[], timestamptz, uuid[], text)",
)


def upgrade() -> None:
    """Create both functions."""
    sql = files("memepool_rounds") / "migrations" / "sql" / "0002_votes.sql"
    op.execute(sql.read_text(encoding="utf-8").replace(":", r"\:"))
    for function in FUNCTIONS:
        op.execute(f"revoke all on function {function} from public")
        grant(op, f"function {function}", "execute")


def downgrade() -> None:
    """Drop them."""
    for function in FUNCTIONS:
        op.execute(f"drop function {function}")
