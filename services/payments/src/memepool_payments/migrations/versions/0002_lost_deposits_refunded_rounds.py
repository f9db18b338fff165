"""Deposits that vanish before they are mined; rounds whose stakes go back.

`deposit.seen_at` has no use any more; a later revision may drop it.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATES = "'open', 'closed', 'paying', 'paid', 'stopped'"


def upgrade() -> None:
    """Count missed looks; allow two more states of a round."""
    op.execute("alter table deposit add column missed smallint not null default 0")
    op.execute("create index deposit_pending on deposit (user_id) where state = 'pending'")
    _states(f"{STATES}, 'refunding', 'refunded'")


def downgrade() -> None:
    """Back; a round that was refunded becomes a stopped one."""
    op.execute("drop index deposit_pending")
    op.execute("alter table deposit drop column missed")
    op.execute(
        "update payment_round set state = 'stopped', stop_reason = 'refunded'"
        " where state in ('refunding', 'refunded')"
    )
    _states(STATES)


def _states(states: str) -> None:
    op.execute("alter table payment_round drop constraint payment_round_state_check")
    op.execute(
        "alter table payment_round add constraint payment_round_state_check"
        f" check (state in ({states}))"
    )
