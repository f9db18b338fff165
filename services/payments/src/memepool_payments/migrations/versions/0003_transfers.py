"""Transfers: limits per hour, and challenges for wallets to sign.

The new function takes the calls of the old one, too: what it adds has defaults.

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
OLD = (
    "post_journals(text[], text[], bytea[], text[], text[], uuid[], uuid[], text[], text[],"
    " int[], int[], bigint[], bigint[], text[])"
)
NEW = OLD.removesuffix(")") + ", bigint, int)"


def upgrade() -> None:
    """Replace `post_journals`; challenges."""
    op.execute(f"drop function {OLD}")
    op.execute((SQL / "0003_transfers.sql").read_text(encoding="utf-8"))
    op.execute(f"revoke all on function {NEW} from public")
    grant(op, f"function {NEW}", "execute")
    grant(op, "signature_challenge", "select, insert, update (used_at), delete")


def downgrade() -> None:
    """Back to the function of the first revision."""
    op.execute(f"drop function {NEW}")
    op.execute("drop table signature_challenge")
    op.execute("alter table balance drop column sent_hour, drop column sent, drop column sends")
    first = (SQL / "0001_functions.sql").read_text(encoding="utf-8")
    op.execute(
        "create function post_journals" + first.partition("create function post_journals")[2]
    )
    op.execute(f"revoke all on function {OLD} from public")
    grant(op, f"function {OLD}", "execute")
