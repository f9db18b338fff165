-- Double entry in whole satoshis. A positive amount is owed by the platform, a negative one is what
-- it has or is owed: coins on chain and receivables stand negative, and everything sums to zero.

create table account (
  id bigint generated always as identity primary key,
  kind text not null check (kind in (
    'user_available', 'user_held', 'user_receivable',
    'round_escrow', 'platform_fee', 'carry', 'chain_assets')),
  owner_id uuid,
  round_id text,
  created_at timestamptz not null default now(),
  check ((kind in ('user_available', 'user_held', 'user_receivable')) = (owner_id is not null)),
  check ((kind = 'round_escrow') = (round_id is not null))
);
create unique index account_user on account (owner_id, kind) where owner_id is not null;
create unique index account_round on account (round_id) where round_id is not null;
create unique index account_platform on account (kind) where owner_id is null and round_id is null;
insert into account (kind) values ('platform_fee'), ('carry'), ('chain_assets');

-- Only where a limit must hold or a debt must be known. Accounts that gather credits while many
-- post (escrow, fee, carry) have no row: it would be the one row that everybody waits for.
create table balance (
  account_id bigint primary key references account,
  posted bigint not null default 0,
  limited boolean not null,
  frozen boolean not null default false,
  check (posted >= 0 or not limited)
) with (fillfactor = 50);

-- A refusal is a journal too, with its reason as outcome and without entries: a key is answered
-- once, whatever the answer was.
create table journal (
  id bigint generated always as identity primary key,
  scope text not null,
  key text not null,
  request_hash bytea not null,
  kind text not null check (kind in (
    'deposit', 'deposit_reversal', 'stake', 'stake_refund', 'reward', 'transfer', 'fee')),
  outcome text not null,
  round_id text,
  sender_id uuid,
  recipient_id uuid,
  memo text,
  txid text,
  created_at timestamptz not null default now(),
  unique (scope, key)
);

-- `line` numbers the movements of a journal: entries of one line are one movement, seen from its
-- two ends. One index serves history and sums per account; sums per journal are the reconciler's.
create table entry (
  account_id bigint not null,
  journal_id bigint not null,
  line smallint not null,
  amount bigint not null check (amount <> 0),
  balance_after bigint,
  note text,
  primary key (account_id, journal_id, line)
);

create function refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% is append-only: correct it with a reversing journal', tg_table_name
    using errcode = 'insufficient_privilege';
end $$;
create trigger journal_append_only before update or delete or truncate on journal
  for each statement execute function refuse_change();
create trigger entry_append_only before update or delete or truncate on entry
  for each statement execute function refuse_change();

-- All entries of a journal are inserted by one statement, so the check needs no deferring.
create function require_zero_sum() returns trigger language plpgsql as $$
begin
  if exists (select from added group by journal_id having sum(amount) <> 0) then
    raise exception 'the entries of a journal must sum to zero' using errcode = 'check_violation';
  end if;
  return null;
end $$;
create trigger entry_zero_sum after insert on entry referencing new table as added
  for each statement execute function require_zero_sum();

create table member (
  user_id uuid primary key,
  wallet_address text not null unique,
  suspended boolean not null,
  frozen boolean not null default false,
  version bigint not null,
  created_at timestamptz not null
);

-- The mark of a block: what was posted after it is younger than it.
create table block_mark (
  height integer primary key,
  journal_id bigint not null,
  marked_at timestamptz not null default now()
);
