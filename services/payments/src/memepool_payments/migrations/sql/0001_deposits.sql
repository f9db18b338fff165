create table deposit_address (
  user_id uuid primary key,
  key_index integer generated always as identity (start with 0 minvalue 0) unique,
  address text unique,
  watched_until timestamptz not null,
  checked_at timestamptz
);
create index deposit_address_turn on deposit_address (checked_at nulls first);

-- One row per outpoint. `generation` counts its credits: a reorganisation reverses one, and mined
-- again it is credited under the next. `disconnected`: credited, and its block left the chain.
create table deposit (
  txid text not null,
  vout integer not null check (vout >= 0),
  user_id uuid not null,
  amount bigint not null check (amount > 0),
  state text not null default 'pending' check (state in ('pending', 'credited', 'disconnected')),
  generation integer not null default 0,
  block_hash text,
  block_height integer,
  seen_at timestamptz not null default now(),  -- by the scanner, last
  created_at timestamptz not null default now(),
  proof_asked_at timestamptz,
  credited_at timestamptz,
  primary key (txid, vout),
  check ((state = 'pending') = (block_hash is null))
);
create index deposit_user on deposit (user_id, created_at, txid, vout);
create index deposit_due on deposit (proof_asked_at nulls first) where state <> 'credited';
create index deposit_block on deposit (block_hash) where state = 'credited';

-- Coins that the platform can spend once they are free. Reserving and spending them comes with
-- withdrawals; until then each coin is a deposit's outpoint.
create table coin (
  txid text not null,
  vout integer not null,
  amount bigint not null check (amount > 0),
  key_index integer not null,
  state text not null check (state in ('pending', 'free')),
  primary key (txid, vout)
);
