"""Reports by readers, and what was decided on them."""

from alembic import op

from memepool_common.tables import grant

revision = "0003"
down_revision = "0002"

_REPORT = """
create table report (
  id uuid primary key,
  content_id uuid not null references content (id),
  reporter_id uuid not null,
  reason text not null,
  detail text,
  state text not null default 'open' check (state in ('open', 'removed', 'dismissed')),
  decided_by uuid,
  decision_reason text,
  created_at timestamptz not null,
  decided_at timestamptz,
  check ((state = 'open') = (decided_at is null)),
  check ((state = 'open') = (decision_reason is null))
)
"""


def upgrade() -> None:
    """Create the table; a reader has one open report of a meme at most."""
    op.execute(_REPORT)
    op.execute(
        "create unique index report_open on report (content_id, reporter_id) where state = 'open'"
    )
    op.execute("create index report_queue on report (id) where state = 'open'")
    op.execute("create index report_recent on report (reporter_id, created_at)")
    grant(op, "report", "select, insert, update")


def downgrade() -> None:
    """Drop it."""
    op.execute("drop table report")
