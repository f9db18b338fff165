-- Money set aside for one purpose: from the owner's available to their held account and, once, on to
-- where it was meant for (`posted`, of which a part may come back) or wholly back (`voided`, or
-- `expired` by its own time). Two journals, one for each of these movements, are the proof.
create table hold (
  id uuid primary key,
  owner_id uuid not null,
  kind text not null check (kind in ('withdrawal')),
  amount bigint not null check (amount > 0),
  state text not null default 'open' check (state in ('open', 'posted', 'voided', 'expired')),
  posted_amount bigint not null default 0,
  expires_at timestamptz,
  opened_at timestamptz not null default now(),
  closed_at timestamptz,
  check ((state = 'open') = (closed_at is null)),
  check (case when state = 'posted' then posted_amount between 1 and amount
              else posted_amount = 0 end)
) with (fillfactor = 70);
create index hold_due on hold (expires_at) where state = 'open';
create index hold_open on hold (owner_id) where state = 'open';
