"""What a round took of other rounds' carry stays said, also when it was refunded; and whether so
many votes wait for their stakes that no more should be taken.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

from memepool_common.tables import grant

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

VOTES_WAIT = "votes_wait(bigint)"


def upgrade() -> None:
    """A table beside `carry`, whose `taken_by` is of now; a function for the API."""
    op.execute(
        """
        create table carry_taken (
          round_id bigint not null references round,
          source_id bigint not null references carry,
          amount bigint not null check (amount > 0),
          primary key (round_id, source_id)
        )
        """
    )
    grant(op, "carry_taken", "select, insert")
    op.execute(
        "insert into carry_taken (round_id, source_id, amount)"
        " select taken_by, round_id, amount from carry where taken_by is not null"
    )
    # Payments answers in the order of placement: so ten samples tell, without counting. One batch
    # that is never answered does not.
    op.execute(
        """
        create function votes_wait(most bigint) returns boolean
        language sql stable set enable_seqscan = off as $$
          select count(*) = 10 from round r
          cross join lateral (
            select v.sequence from vote v where v.round_id = r.id
            order by v.sequence desc limit 1) newest
          cross join generate_series(1, 10) n
          cross join lateral (
            select v.state from vote v
            where v.round_id = r.id and v.sequence <= newest.sequence - n * most / 10
            order by v.sequence desc limit 1) sample
          where r.state = 'open' and sample.state = 'pending'
        $$
        """
    )
    op.execute(f"revoke all on function {VOTES_WAIT} from public")
    grant(op, f"function {VOTES_WAIT}", "execute")


def downgrade() -> None:
    """Drop both."""
    op.execute(f"drop function {VOTES_WAIT}")
    op.execute("drop table carry_taken")
