"""Memes, their renditions, the hashes that may not come back, the processing queue."""

from alembic import op

from memepool_common.tables import create_common_tables, drop_common_tables, grant

revision = "0001"
down_revision = None

_CONTENT = """
create table content (
  id uuid primary key,
  creator_id uuid not null,
  title text,
  description text,
  tags text[] not null,
  status text not null
    check (status in ('processing', 'ready', 'rejected', 'transforming', 'removed')),
  revision bigint not null default 1,
  version integer not null default 1,
  mime_type text,
  width integer,
  height integer,
  frames integer,
  size_bytes bigint,
  sha256 text,
  quality double precision,
  rejection_code text,
  rejection_detail text,
  removed_by text check (removed_by in ('owner', 'admin')),
  created_at timestamptz not null,
  updated_at timestamptz not null,
  check ((status in ('ready', 'transforming')) <= (sha256 is not null)),
  check ((status = 'rejected') <= (rejection_code is not null)),
  check ((status = 'removed') = (removed_by is not null))
)
"""
# Renditions of every version: a round keeps showing the version that was submitted to it.
_VARIANT = """
create table variant (
  content_id uuid not null references content (id),
  version integer not null,
  name text not null check (name in ('full', 'preview', 'thumb')),
  mime_type text not null,
  width integer not null,
  height integer not null,
  size_bytes bigint not null,
  sha256 text not null,
  primary key (content_id, version, name)
)
"""
# SHA-256 of uploads, of pixels and of served files alike: each belongs to one meme. Those of a
# removed meme stay: they are its tombstone.
_IMAGE_HASH = """
create table image_hash (
  sha256 text primary key,
  content_id uuid not null references content (id)
)
"""
_JOB = """
create table processing_job (
  content_id uuid primary key references content (id),
  creator_id uuid not null,
  upload_key text not null,
  enqueued_at timestamptz not null,
  available_at timestamptz not null,
  attempts integer not null default 0,
  lease_id uuid,
  leased_until timestamptz
)
"""
# Objects that must go from the store, at `due_at` at the latest. An upload is entered here before
# it is stored and taken out with the commit that needs it, so no crash can leave an orphan.
_ERASURE = """
create table erasure (
  key text primary key,
  due_at timestamptz not null
)
"""
_MEMBER = """
create table member (
  user_id uuid primary key,
  suspended boolean not null,
  version bigint not null
)
"""
_GRANTS = {
    "content": "select, insert, update",
    "variant": "select, insert, delete",
    "image_hash": "select, insert, delete",
    "processing_job": "select, insert, update, delete",
    "erasure": "select, insert, update, delete",
    "member": "select, insert, update",
}


def upgrade() -> None:
    """Create everything."""
    for statement in (
        _CONTENT,
        "create index content_creator on content (creator_id, id desc)",
        "create index content_recent on content (creator_id, created_at)",
        "create index content_tags on content using gin (tags)",
        _VARIANT,
        _IMAGE_HASH,
        "create index image_hash_content on image_hash (content_id)",
        _JOB,
        "create index processing_job_due on processing_job (enqueued_at)",
        _ERASURE,
        "create index erasure_due on erasure (due_at)",
        _MEMBER,
    ):
        op.execute(statement)
    for table, rights in _GRANTS.items():
        grant(op, table, rights)
    create_common_tables(op)


def downgrade() -> None:
    """Drop everything."""
    drop_common_tables(op)
    for table in ("member", "erasure", "processing_job", "image_hash", "variant", "content"):
        op.execute(f"drop table {table}")
