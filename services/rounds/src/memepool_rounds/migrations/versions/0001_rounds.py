"""Rounds, submissions, votes, results, policies, carry; projections; the chain's headers."""

import json

from alembic import op

from memepool_chain import headerstore
from memepool_common.tables import create_common_tables, drop_common_tables, grant
from memepool_rounds.domain.policy import STANDARD_1

revision = "0001"
down_revision = None

TABLES = (
    (
        "policy",
        "select, insert",
        """
        create table policy (
          id text primary key,
          seq bigint generated always as identity unique,
          document jsonb not null,
          from_height bigint not null check (from_height >= 0),
          created_by uuid,
          created_at timestamptz not null default now()
        )
        """,
    ),
    (
        "round",
        "select, insert, update",
        """
        create table round (
          id bigint primary key check (id >= 0),
          block_hash text not null,
          state text not null default 'open'
            check (state in ('open', 'closing', 'closed', 'settled', 'refunded')),
          policy jsonb not null,
          opened_at timestamptz not null,
          passed_height bigint not null,
          closing_height bigint,
          closing_hash text,
          closing_at timestamptz,
          finality text,
          waited interval not null default '0',
          looked_at timestamptz,
          closed_at timestamptz,
          settled_at timestamptz,
          stopped_reason text,
          settlement_txid text,
          settlement_at timestamptz,
          check ((state = 'open') = (closing_height is null)),
          check ((closing_height is null) = (closing_hash is null)),
          check (closing_height > id),
          check ((closed_at is not null) = (state in ('closed', 'settled', 'refunded'))),
          check ((settled_at is not null) = (state in ('settled', 'refunded')))
        )
        """,
    ),
    (
        "submission",
        "select, insert, update",
        """
        create table submission (
          round_id bigint not null references round,
          content_id uuid not null,
          creator_id uuid not null,
          version integer not null,
          sha256 text not null,
          state text not null default 'entered'
            check (state in ('entered', 'withdrawn', 'removed')),
          submitted_at timestamptz not null,
          stakes bigint not null default 0 check (stakes >= 0),
          backers bigint not null default 0 check (backers >= 0),
          primary key (round_id, content_id),
          unique (round_id, creator_id)
        ) with (fillfactor = 70)
        """,
    ),
    (
        "queued_submission",
        "select, insert, delete",
        """
        create table queued_submission (
          seq bigint generated always as identity primary key,
          content_id uuid not null unique,
          creator_id uuid not null unique,
          submitted_at timestamptz not null
        )
        """,
    ),
    (
        # No index names the state: counting a vote stays a heap-only update. No foreign keys: their
        # checks would lock the hot meme's row; the query that places votes joins instead.
        "vote",
        "select, insert, update",
        """
        create table vote (
          id uuid primary key,
          sequence bigint generated always as identity,
          round_id bigint not null,
          content_id uuid not null,
          voter_id uuid not null,
          amount bigint not null check (amount > 0),
          state text not null default 'pending'
            check (state in ('pending', 'counted', 'rejected')),
          reason text,
          placed_at timestamptz not null,
          key text,
          request_hash bytea,
          unique (voter_id, key),
          check ((state = 'rejected') = (reason is not null)),
          check ((key is null) = (request_hash is null))
        ) with (fillfactor = 70)
        """,
    ),
    (
        # Who has a counted vote on a meme: a table, because plans are made while tables are empty,
        # and then a look-up among the votes takes any index.
        "backer",
        "select, insert",
        """
        create table backer (
          round_id bigint not null,
          content_id uuid not null,
          voter_id uuid not null,
          primary key (round_id, content_id, voter_id)
        )
        """,
    ),
    (
        "result",
        "select, insert",
        """
        create table result (
          round_id bigint primary key references round,
          counted_votes bigint not null,
          stakes bigint not null,
          carry_in bigint not null,
          pot bigint not null check (pot = stakes + carry_in),
          fee bigint not null check (fee >= 0),
          rewards bigint not null check (rewards >= 0),
          carry_out bigint not null check (carry_out >= 0),
          votes_root text not null,
          rewards_root text not null,
          bundle_sha256 text not null,
          check (pot = fee + rewards + carry_out),
          check (counted_votes > 0 or pot = 0)
        )
        """,
    ),
    (
        "ranking",
        "select, insert",
        """
        create table ranking (
          round_id bigint not null references result,
          rank integer not null,
          content_id uuid not null,
          creator_id uuid not null,
          stakes bigint not null check (stakes > 0),
          backers bigint not null check (backers > 0),
          primary key (round_id, rank),
          unique (round_id, content_id)
        )
        """,
    ),
    (
        "reward",
        "select, insert",
        """
        create table reward (
          round_id bigint not null references result,
          line integer not null,
          recipient uuid not null,
          amount bigint not null check (amount > 0),
          reason text not null,
          primary key (round_id, line)
        )
        """,
    ),
    (
        # Inner nodes of the tree over a round's votes: proofs need not read a million of them.
        "vote_chunk",
        "select, insert",
        """
        create table vote_chunk (
          round_id bigint not null references result,
          position integer not null,
          first_sequence bigint not null,
          digest bytea not null check (length(digest) = 32),
          primary key (round_id, position)
        )
        """,
    ),
    (
        # What settled rounds left. A primary key and one column: taken at most once.
        "carry",
        "select, insert, update (taken_by)",
        """
        create table carry (
          round_id bigint primary key references round,
          amount bigint not null check (amount > 0),
          taken_by bigint references round,
          check (taken_by <> round_id)
        )
        """,
    ),
    (
        "meme",
        "select, insert, update",
        """
        create table meme (
          content_id uuid primary key,
          creator_id uuid not null,
          version integer not null,
          sha256 text not null,
          removed boolean not null default false,
          revision bigint not null
        )
        """,
    ),
    (
        "account",
        "select, insert, update",
        """
        create table account (
          user_id uuid primary key,
          suspended boolean not null,
          revision bigint not null
        )
        """,
    ),
    (
        "follower",
        "select, insert, update",
        """
        create table follower (
          only_row boolean primary key default true check (only_row),
          source_height bigint,
          source_hash text,
          polled_at timestamptz not null,
          last_error text,
          failing_since timestamptz
        )
        """,
    ),
    (
        "reorganisation",
        "select, insert",
        """
        create table reorganisation (
          seq bigint generated always as identity primary key,
          at timestamptz not null,
          fork_height bigint not null,
          depth integer not null,
          old_tip text not null,
          new_tip text not null
        )
        """,
    ),
)

INDEXES = (
    "create unique index round_one_open on round ((true)) where state = 'open'",
    "create index round_unfinished on round (state) where state in ('closing', 'closed')",
    "create index vote_sequence on vote (round_id, sequence)",
    "create index carry_free on carry (round_id) where taken_by is null",
)


def upgrade() -> None:
    create_common_tables(op)
    headerstore.create_table(op)
    for table, rights in headerstore.GRANTS.items():
        grant(op, table, rights)
    for table, rights, statement in TABLES:
        op.execute(statement)
        grant(op, table, rights)
    for statement in INDEXES:
        op.execute(statement)
    document = json.dumps(STANDARD_1.document()).replace(":", r"\:")
    op.execute(
        "insert into policy (id, document, from_height)"  # noqa: S608 - our own constant
        f" values ('{STANDARD_1.id}', '{document}', 0)"
    )


def downgrade() -> None:
    for table, _, _ in reversed(TABLES):
        op.execute(f"drop table {table}")
    for table in ("chain_tip", "chain_header"):
        op.execute(f"drop table {table}")
    drop_common_tables(op)
