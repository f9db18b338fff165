create table payment_round (
  round_id text primary key,
  state text not null default 'open'
    check (state in ('open', 'closed', 'paying', 'paid', 'stopped')),
  stop_reason text,
  lines_paid integer not null default 0,
  opened_at timestamptz not null default now(),
  closed_at timestamptz,
  finished_at timestamptz,
  check ((state = 'stopped') = (stop_reason is not null))
);
create index payment_round_unpaid on payment_round (round_id) where state <> 'paid';

-- One row per vote. What is held is in its round's escrow, until that is paid. A void row says that
-- a vote was rejected before its stake was asked for: the tally names only its id.
create table stake (
  vote_id uuid primary key,
  round_id text not null,
  content_id uuid,
  voter_id uuid,
  amount bigint check (amount > 0),
  state text not null check (state in ('held', 'refused', 'refunded', 'void')),
  reason text,
  decided_at timestamptz not null default now(),
  check (state = 'void' or (content_id is not null and voter_id is not null
                            and amount is not null))
) with (fillfactor = 70);
create index stake_meme on stake (round_id, content_id);
create index stake_voter on stake (round_id, voter_id) where state = 'held';

create table withdrawn_meme (
  round_id text not null,
  content_id uuid not null,
  refunded boolean not null default false,
  primary key (round_id, content_id)
);
create index withdrawn_meme_due on withdrawn_meme (round_id) where not refunded;

-- RoundClosed as it was received, whole, before the first satoshi moves. Never changed.
create table distribution (
  round_id text primary key,
  counted_votes bigint not null,
  stakes bigint not null,
  carry_in bigint not null,
  carry_rounds text[] not null,
  carry_amounts bigint[] not null,
  pot bigint not null,
  fee bigint not null,
  fee_basis_points integer not null,
  carry_out bigint not null,
  creators uuid[] not null,
  recipients uuid[] not null,
  amounts bigint[] not null,
  reasons text[] not null,
  void uuid[] not null,
  roots jsonb not null,
  recorded_at timestamptz not null default now(),
  check (cardinality(recipients) = cardinality(amounts)),
  check (cardinality(recipients) = cardinality(reasons)),
  check (cardinality(carry_rounds) = cardinality(carry_amounts))
);
-- Every chunk reads them again: not to be unpacked each time.
alter table distribution alter recipients set storage external, alter amounts set storage external,
  alter reasons set storage external;

create table carry (
  round_id text primary key,
  amount bigint not null check (amount > 0),
  taken_by text
);
