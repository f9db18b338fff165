"""Users, challenges, grants, sessions, signing keys, statistics."""

from alembic import op

from memepool_common.tables import create_common_tables, drop_common_tables, grant

revision = "0001"
down_revision = None

_SQL = (
    """
create table app_user (
  id uuid primary key,
  wallet_address text not null unique,
  role text not null default 'viewer' check (role in ('viewer', 'creator', 'admin')),
  suspended_at timestamptz,
  suspension_reason text,
  tokens_not_before timestamptz,
  version bigint not null default 1,
  created_at timestamptz not null
)
""",
    "create index app_user_admin on app_user (id) where role = 'admin'",
    "create index app_user_revoked on app_user (tokens_not_before)",
    """
create table first_admin (
  only_row boolean primary key default true check (only_row),
  user_id uuid not null references app_user,
  applied_at timestamptz not null default now()
)
""",
    """
create table challenge (
  nonce text primary key,
  wallet_address text not null,
  address_prefix text,
  message text not null,
  issued_at timestamptz not null,
  expires_at timestamptz not null,
  used_at timestamptz
)
""",
    "create index challenge_wallet on challenge (wallet_address, expires_at)",
    "create index challenge_prefix on challenge (address_prefix, expires_at)",
    "create index challenge_age on challenge (expires_at)",
    """
create table sign_in_grant (
  grant_hash bytea primary key,
  user_id uuid not null references app_user,
  expires_at timestamptz not null,
  used_at timestamptz
)
""",
    "create index sign_in_grant_age on sign_in_grant (expires_at)",
    """
create table session (
  id uuid primary key,
  user_id uuid not null references app_user,
  device text,
  address_prefix text,
  created_at timestamptz not null,
  last_used_at timestamptz not null,
  expires_at timestamptz not null,
  tokens_expire_at timestamptz not null,
  ended_at timestamptz,
  end_reason text,
  check ((ended_at is null) = (end_reason is null))
)
""",
    "create index session_live on session (user_id, id) where ended_at is null",
    "create index session_ended on session (tokens_expire_at) where ended_at is not null",
    "create index session_age on session (expires_at)",
    """
create table refresh_token (
  token_hash bytea primary key,
  session_id uuid not null references session on delete cascade,
  issued_at timestamptz not null,
  used_at timestamptz
)
""",
    "create index refresh_token_session on refresh_token (session_id)",
    """
create table signing_key (
  kid text primary key,
  public_jwk jsonb not null,
  sealed_private_key bytea not null,
  signs_from timestamptz not null,
  published_until timestamptz,
  created_at timestamptz not null default now()
)
""",
    """
create table user_stats (
  user_id uuid primary key,
  uploads bigint not null default 0,
  submissions bigint not null default 0,
  votes bigint not null default 0,
  sats_staked bigint not null default 0,
  rounds_won bigint not null default 0,
  sats_earned bigint not null default 0
)
""",
    "create table stats_upload (content_id uuid primary key)",
    """
create table stats_vote (
  vote_id uuid primary key,
  counted boolean not null,
  refunded boolean not null
)
""",
)

_GRANTS = {
    "app_user": "select, insert, update",
    "first_admin": "select, insert",
    "challenge": "select, insert, update, delete",
    "sign_in_grant": "select, insert, update, delete",
    "session": "select, insert, update, delete",
    "refresh_token": "select, insert, update, delete",
    "signing_key": "select, insert, update, delete",
    "user_stats": "select, insert, update",
    "stats_upload": "select, insert",
    "stats_vote": "select, insert, update",
}


def upgrade() -> None:
    """Create the tables. The application role can delete no user and undo no first admin."""
    create_common_tables(op)
    for statement in _SQL:
        op.execute(statement)
    for table, rights in _GRANTS.items():
        grant(op, table, rights)


def downgrade() -> None:
    """Drop them."""
    for table in reversed(_GRANTS):
        op.execute(f"drop table {table}")
    drop_common_tables(op)
