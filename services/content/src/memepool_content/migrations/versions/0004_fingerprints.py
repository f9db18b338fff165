"""PDQ fingerprints of all images that were ever shown."""

from alembic import op

from memepool_common.tables import grant

revision = "0004"
down_revision = "0003"

# Written under one advisory lock, so that `seq` rises in the order of commits: whoever reads on
# from the last one has missed none. Rows stay: those of a removed meme are its tombstone.
_FINGERPRINT = """
create table fingerprint (
  seq bigint generated always as identity primary key,
  content_id uuid not null references content (id),
  pdq bytea not null check (length(pdq) = 32)
)
"""


def upgrade() -> None:
    """Create the table."""
    op.execute(_FINGERPRINT)
    grant(op, "fingerprint", "select, insert")


def downgrade() -> None:
    """Drop it."""
    op.execute("drop table fingerprint")
