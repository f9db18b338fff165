"""Challenges bound to site and purpose, back-off, refresh grace, statistics that can be rebuilt."""

from alembic import op

from memepool_common.tables import grant

revision = "0002"
down_revision = "0001"

_UP = (
    # Challenges that are open during the roll-out have no site: they are asked for anew.
    "alter table challenge add column domain text not null default ''",
    "alter table challenge add column purpose text not null default 'sign_in'",
    "alter table refresh_token add column sealed_successor bytea",
    """
create table sign_in_failure (
  scope text primary key,
  failures int not null,
  last_failed_at timestamptz not null,
  blocked_until timestamptz
)
""",
    "create index sign_in_failure_age on sign_in_failure (last_failed_at)",
)
_DOWN = (
    "drop table sign_in_failure",
    "alter table refresh_token drop column sealed_successor",
    "alter table challenge drop column purpose",
    "alter table challenge drop column domain",
)
_GRANTS = {
    "sign_in_failure": "select, insert, update, delete",
    "user_stats": "delete",
    "stats_upload": "delete",
    "stats_vote": "delete",
}
_REVOKED = ("user_stats", "stats_upload", "stats_vote")


def upgrade() -> None:
    """Add them."""
    for statement in _UP:
        op.execute(statement)
    for table, rights in _GRANTS.items():
        grant(op, table, rights)


def downgrade() -> None:
    """Take them away."""
    config = op.get_context().config
    assert config is not None  # noqa: S101 - `grant` has said so on the way up
    for table in _REVOKED:
        op.execute(f'revoke delete on {table} from "{config.attributes["app_role"]}"')
    for statement in _DOWN:
        op.execute(statement)
