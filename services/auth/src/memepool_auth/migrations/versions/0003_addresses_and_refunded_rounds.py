"""Challenges counted per address; results of rounds that may still be given back.

`challenge.address_prefix` stays for the code of before, which writes it; nothing reads it any more.
"""

from alembic import op

from memepool_common.tables import grant

revision = "0003"
down_revision = "0002"

_UP = (
    # Challenges that are open during the roll-out have no address: they need their nonce.
    "alter table challenge add column address_key text",
    "create index challenge_address on challenge (address_key, expires_at)",
    "drop index challenge_prefix",
    """
create table stats_round (
  round_id text primary key,
  closed boolean not null,
  refunded boolean
)
""",
    """
create table stats_result (
  round_id text not null references stats_round,
  user_id uuid not null,
  won int not null,
  earned bigint not null,
  primary key (round_id, user_id)
)
""",
)
_DOWN = (
    "drop table stats_result",
    "drop table stats_round",
    "create index challenge_prefix on challenge (address_prefix, expires_at)",
    "alter table challenge drop column address_key",
)
_GRANTS = {
    "stats_round": "select, insert, update, delete",
    "stats_result": "select, insert, delete",
}


def upgrade() -> None:
    """Add them."""
    for statement in _UP:
        op.execute(statement)
    for table, rights in _GRANTS.items():
        grant(op, table, rights)


def downgrade() -> None:
    """Take them away."""
    for statement in _DOWN:
        op.execute(statement)
