"""The ledger, stakes and distributions, deposits with their headers.

Revision ID: 0001
Revises:
"""

from importlib.resources import files

from alembic import op

from memepool_chain import headerstore
from memepool_common.tables import create_common_tables, drop_common_tables, grant

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# What is not listed, the application role may not do: journals, movements, balances and
# accounts are written by the ledger's functions alone, and a plan is never changed.
GRANTS = {
    "account": "select",
    "balance": "select",
    "journal": "select",
    "movement": "select",
    "member": "select, insert, update",
    "block_mark": "select, insert",
    "payment_round": "select, insert, update",
    "stake": "select, insert, update (state, reason, decided_at)",
    "withdrawn_meme": "select, insert, update (refunded)",
    "distribution": "select, insert",
    "carry": "select, insert, update (taken_by)",
    "deposit_address": "select, insert, update (address, watched_until, checked_at)",
    "deposit": "select, insert, update",
    "coin": "select, insert, update (state)",
    **headerstore.GRANTS,
}
FUNCTIONS = (
    "open_accounts(uuid[], text)",
    "open_escrows(text[])",
    "set_frozen(uuid, boolean)",
    "lock_balances(bigint[])",
    (
        "post_journals(text[], text[], bytea[], text[], text[], uuid[], uuid[], text[], text[],"
        " int[], bigint[], bigint[], bigint[], text[], bigint, int)"
    ),
)
FILES = (
    "0001_ledger",
    "0001_accounts",
    "0001_posting",
    "0001_transfers",
    "0001_rounds",
    "0001_payout",
    "0001_stakes",
    "0001_deposits",
)


def upgrade() -> None:
    """Create everything."""
    create_common_tables(op)
    headerstore.create_table(op)
    sql = files("memepool_payments") / "migrations" / "sql"
    for name in FILES:
        op.execute((sql / f"{name}.sql").read_text(encoding="utf-8"))
    for function in FUNCTIONS:
        op.execute(f"revoke all on function {function} from public")
        grant(op, f"function {function}", "execute")
    for table, rights in GRANTS.items():
        grant(op, table, rights)
    grant(op, "entry", "select")


def downgrade() -> None:
    """Drop everything."""
    op.execute("drop function hold_votes")
    op.execute("drop function pay_chunk")
    op.execute("drop function post_transfers")
    for function in FUNCTIONS:
        op.execute(f"drop function {function}")
    for table in GRANTS:
        op.execute(f"drop table {table} cascade")
    op.execute("drop function refuse_change()")
    drop_common_tables(op)
