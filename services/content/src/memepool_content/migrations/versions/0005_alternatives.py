"""Renditions in further formats, and the jobs that make them."""

from alembic import op

from memepool_common.tables import grant

revision = "0005"
down_revision = "0004"

# The same rendition written in another format, for clients that name it in Accept.
_ALTERNATIVE = """
create table alternative (
  content_id uuid not null,
  version integer not null,
  name text not null,
  mime_type text not null,
  width integer not null,
  height integer not null,
  size_bytes bigint not null,
  sha256 text not null,
  primary key (content_id, version, name, mime_type),
  foreign key (content_id, version, name) references variant on delete cascade
)
"""
# `decode` makes a meme of an upload; `alternatives` follows for each version that is shown.
_STAGES = (
    "alter table processing_job add column stage text not null default 'decode'",
    "alter table processing_job add check (stage in ('decode', 'alternatives'))",
    "alter table processing_job add column version integer not null default 1",
    "alter table processing_job alter column upload_key drop not null",
    "alter table processing_job add check ((stage = 'decode') = (upload_key is not null))",
    "alter table processing_job drop constraint processing_job_pkey",
    "alter table processing_job add primary key (content_id, stage, version)",
)
_BACK = (
    "delete from processing_job where stage = 'alternatives'",
    "alter table processing_job drop constraint processing_job_pkey",
    "alter table processing_job add primary key (content_id)",
    "alter table processing_job drop column stage",  # with it goes the check on upload_key
    "alter table processing_job drop column version",
    "alter table processing_job alter column upload_key set not null",
)


def upgrade() -> None:
    """Create the table, and give jobs a stage."""
    op.execute(_ALTERNATIVE)
    grant(op, "alternative", "select, insert, delete")
    for statement in _STAGES:
        op.execute(statement)


def downgrade() -> None:
    """Drop them. Objects of alternatives stay in the store, until their memes are removed."""
    for statement in _BACK:
        op.execute(statement)
    op.execute("drop table alternative")
