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
-- `sent` and `sends`: satoshis and transfers that left in the hour (since 1970) of the last posting.
create table balance (
  account_id bigint primary key references account,
  posted bigint not null default 0,
  limited boolean not null,
  frozen boolean not null default false,
  sent_hour bigint not null default 0,
  sent bigint not null default 0,
  sends integer not null default 0,
  check (posted >= 0 or not limited)
) with (fillfactor = 50);

-- A refusal is a journal too, with its reason as outcome and without movements: a key is answered
-- once, whatever the answer was.
create table journal (
  id bigint generated always as identity primary key,
  scope text not null,
  key text not null,
  request_hash bytea not null,
  kind text not null check (kind in (
    'deposit', 'deposit_reversal', 'stake', 'stake_refund', 'reward', 'transfer', 'transfer_reversal',
    'withdrawal', 'fee')),
  outcome text not null,
  round_id text,
  sender_id uuid,
  recipient_id uuid,
  memo text,
  txid text,
  created_at timestamptz not null default now(),
  unique (scope, key)
);

-- An amount from one account to another: a movement cannot be out of balance, so no journal can.
-- What the two ends had afterwards is kept where balances are materialised.
create table movement (
  journal_id bigint not null,
  line smallint not null check (line > 0),
  source bigint not null,
  target bigint not null,
  amount bigint not null check (amount > 0),
  source_after bigint,
  target_after bigint,
  note text,
  check (source <> target)
);
create index movement_source on movement (source, journal_id, line);
create index movement_target on movement (target, journal_id, line);
-- By journal: costs next to nothing to keep, for the sealer and whoever looks at one journal.
create index movement_journal on movement using brin (journal_id)
  with (pages_per_range = 32, autosummarize = on);

-- The same as an account sees it: what came and what went.
create view entry as
  select source as account_id, journal_id, line, -amount as amount, source_after as balance_after,
         note
  from movement
  union all
  select target, journal_id, line, amount, target_after, note from movement;

create function refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% is append-only: correct it with a reversing journal', tg_table_name
    using errcode = 'insufficient_privilege';
end $$;
create trigger journal_append_only before update or delete or truncate on journal
  for each statement execute function refuse_change();
create trigger movement_append_only before update or delete or truncate on movement
  for each statement execute function refuse_change();

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
