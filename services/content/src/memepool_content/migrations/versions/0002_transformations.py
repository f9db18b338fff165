"""Transformations by the image AI."""

from alembic import op

from memepool_common.tables import grant

revision = "0002"
down_revision = "0001"

_TRANSFORMATION = """
create table transformation (
  id uuid primary key,
  content_id uuid not null references content (id),
  creator_id uuid not null,
  kind text not null check (kind in ('image2image', 'text2image', 'upscale')),
  prompt text not null,
  style text,
  strength double precision,
  state text not null check (
    state in ('waiting', 'queued', 'submitting', 'running', 'copied', 'done', 'failed')
  ),
  revision bigint not null default 1,
  progress_percent integer not null default 0 check (progress_percent between 0 and 100),
  attempts integer not null default 0,
  remote_id text,
  credits_consumed integer,
  upload_key text,
  version integer,
  error text,
  error_detail text,
  available_at timestamptz not null,
  lease_id uuid,
  leased_until timestamptz,
  submitted_at timestamptz,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  check ((state = 'failed') = (error is not null)),
  check ((state in ('running', 'copied', 'done')) <= (remote_id is not null)),
  check ((state = 'copied') = (upload_key is not null)),
  check ((state = 'done') = (version is not null))
)
"""


def upgrade() -> None:
    """Create the table; a meme has one open transformation at most."""
    op.execute(_TRANSFORMATION)
    op.execute(
        "create unique index transformation_open on transformation (content_id)"
        " where state not in ('done', 'failed')"
    )
    op.execute(
        "create index transformation_due on transformation (available_at)"
        " where state not in ('done', 'failed')"
    )
    op.execute("create index transformation_recent on transformation (creator_id, created_at)")
    op.execute("alter table content add column transformation_id uuid references transformation")
    grant(op, "transformation", "select, insert, update")


def downgrade() -> None:
    """Drop it."""
    op.execute("alter table content drop column transformation_id")
    op.execute("drop table transformation")
