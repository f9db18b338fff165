create table payment_round (
  round_id text primary key,
  state text not null default 'open'
    check (state in ('open', 'closed', 'paying', 'paid', 'stopped')),
  stop_reason text,
  chunks_paid integer not null default 0,
  opened_at timestamptz not null default now(),
  closed_at timestamptz,
  finished_at timestamptz,
  check ((state = 'stopped') = (stop_reason is not null))
);
create index payment_round_due on payment_round (round_id) where state in ('closed', 'paying');

-- One row per vote. A void row says that a vote was rejected before its stake was asked for: the
-- tally names only its id.
create table stake (
  vote_id uuid primary key,
  round_id text not null,
  content_id uuid,
  voter_id uuid,
  amount bigint check (amount > 0),
  state text not null check (state in ('held', 'refused', 'refunded', 'spent', 'void')),
  reason text,
  decided_at timestamptz not null default now(),
  check (state = 'void' or (content_id is not null and voter_id is not null
                            and amount is not null))
) with (fillfactor = 70);
create index stake_meme on stake (round_id, content_id);
create index stake_open on stake (voter_id) where state = 'held';

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

create table carry (
  round_id text primary key,
  amount bigint not null check (amount > 0),
  taken_by text
);

-- Hold the stakes of votes: one row for each that has none. Returns those decided now.
create function hold_stakes(
  v_vote uuid[], v_round text[], v_voter uuid[], v_content uuid[], v_amount bigint[]
) returns table (vote_id uuid, round_id text, outcome text)
language plpgsql set enable_seqscan = off as $$
begin
  perform open_accounts(v_voter);
  perform open_escrows(v_round);
  insert into payment_round (round_id)
    select distinct r from unnest(v_round) as r order by r on conflict do nothing;
  -- Votes share the round; whoever closes it or takes a meme or vote out has it alone.
  perform from payment_round r where r.round_id = any (v_round) order by r.round_id for share;

  return query
  with vote as (
    select distinct on (v.vote_id) v.*,
      case when r.state <> 'open' then 'round_closed'
           when w.content_id is not null then 'meme_withdrawn' end as refusal
    from unnest(v_vote, v_round, v_voter, v_content, v_amount)
      with ordinality as v(vote_id, round_id, voter_id, content_id, amount, n)
    join payment_round r on r.round_id = v.round_id
    left join withdrawn_meme w on w.round_id = v.round_id and w.content_id = v.content_id
    where not exists (select from stake s where s.vote_id = v.vote_id)
    order by v.vote_id, v.n
  ), candidate as (
    select v.*, row_number() over (order by v.n) as item, e.id as escrow, a.id as account
    from vote v
    join account e on e.round_id = v.round_id
    join account a on a.owner_id = v.voter_id and a.kind = 'user_available'
    where v.refusal is null
  ), asked as (
    select
      array_agg('stake'::text order by c.item) as scope,
      array_agg(c.vote_id::text order by c.item) as key,
      array_agg(sha256(convert_to(concat_ws('|', c.round_id, c.voter_id, c.content_id, c.amount),
                                  'UTF8')) order by c.item) as hash,
      array_agg(c.round_id order by c.item) as round,
      array_agg(c.voter_id order by c.item) as voter,
      array_agg(null::uuid) as recipient,
      array_agg(null::text) as none,
      array_agg(c.item::int order by c.item) || array_agg(c.item::int order by c.item) as leg_item,
      array_fill(1, array[2 * count(*)::int]) as leg_line,
      array_agg(c.account order by c.item) || array_agg(c.escrow order by c.item) as leg_account,
      array_agg(-c.amount order by c.item) || array_agg(c.amount order by c.item) as leg_amount,
      array_fill(null::text, array[2 * count(*)::int]) as leg_note
    from candidate c having count(*) > 0
  ), answer as (
    select p.item, p.outcome from asked q, post_journals(
      q.scope, q.key, q.hash, q.scope, q.round, q.voter, q.recipient, q.none, q.none,
      q.leg_item, q.leg_line, q.leg_account, q.leg_amount, q.leg_note) p
  ), decided as (
    select v.*, coalesce(v.refusal, a.outcome) as decision
    from vote v
    left join candidate c on c.vote_id = v.vote_id
    left join answer a on a.item = c.item
  )
  insert into stake as s (vote_id, round_id, content_id, voter_id, amount, state, reason)
  select d.vote_id, d.round_id, d.content_id, d.voter_id, d.amount,
    case when d.decision = 'posted' then 'held' else 'refused' end, nullif(d.decision, 'posted')
  from decided d order by d.n
  on conflict do nothing
  returning s.vote_id, s.round_id, coalesce(s.reason, 'held');
end $$;
