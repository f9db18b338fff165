-- What a user has sent by transfers in the hour (since 1970) of their last posting.
alter table balance
  add column sent_hour bigint not null default 0,
  add column sent bigint not null default 0,
  add column sends integer not null default 0;

-- A text for a wallet to sign: good once, for one user and one intent, until it expires.
create table signature_challenge (
  nonce text primary key,
  user_id uuid not null,
  intent bytea not null,
  message text not null,
  expires_at timestamptz not null,
  used_at timestamptz
);
create index signature_challenge_user on signature_challenge (user_id);

-- Post journals, each wholly or not at all. Items are columns of the j_ arrays; their legs are
-- columns of the l_ arrays, where l_item is the position (from 1) of the item they belong to.
-- What one statement can prove to be funded is posted by it; each of the rest is decided exactly,
-- in its order. The outcome is 'posted', a refusal, or 'key_reused' for a key with another request.
-- A user's transfers are counted by the clock's hour in the row that is locked and updated anyway;
-- beyond the limits (null: none) it is 'too_fast', the one refusal that no key remembers.
create function post_journals(
  j_scope text[], j_key text[], j_hash bytea[], j_kind text[], j_round text[],
  j_sender uuid[], j_recipient uuid[], j_memo text[], j_txid text[],
  l_item int[], l_line int[], l_account bigint[], l_amount bigint[], l_note text[],
  sent_max bigint default null, sends_max int default null
) returns table (item int, journal_id bigint, outcome text, replayed boolean, created_at timestamptz)
language plpgsql security definer
set search_path = public, pg_temp set enable_seqscan = off as $$
declare
  known int[];
  one record;
  refusal text;
  new_id bigint;
  this_hour constant bigint := floor(extract(epoch from now()) / 3600);
begin
  -- The sealer waits for transactions by their ids: have one before the first journal's number.
  perform pg_current_xact_id();
  -- A statement of its own: the next one reads from a snapshot that is younger than the locks.
  perform from balance b where b.account_id = any (l_account)
    order by b.account_id for no key update;

  select coalesce(array_agg(i.n), '{}') into known
  from unnest(j_scope, j_key) with ordinality as i(scope, key, n)
  join journal j on j.scope = i.scope and j.key = i.key;

  with fresh as (
    select distinct on (i.scope, i.key) i.*
    from unnest(j_scope, j_key, j_hash, j_kind, j_round, j_sender, j_recipient, j_memo, j_txid)
      with ordinality as i(scope, key, hash, kind, round_id, sender_id, recipient_id, memo, txid, n)
    where i.n <> all (known)
    order by i.scope, i.key, i.n
  ), leg as (
    select l.* from unnest(l_item, l_line, l_account, l_amount, l_note)
      as l(n, line, account_id, amount, note)
  ), demand as (
    select l.n, l.account_id, sum(l.amount) as net,
      -least(sum(l.amount) filter (where f.kind = 'transfer'), 0) as sent
    from leg l join fresh f on f.n = l.n group by l.n, l.account_id
  ), doubtful as (  -- credits of the same batch are not counted, those refused later are
    select t.n from (
      select d.n, d.net, d.sent, b.frozen,
        b.posted + sum(least(d.net, 0)) over so_far as left_over,
        case when b.sent_hour = this_hour then b.sent else 0 end
          + sum(d.sent) over so_far as all_sent,
        case when b.sent_hour = this_hour then b.sends else 0 end
          + count(*) filter (where d.sent > 0) over so_far as all_sends
      from demand d join balance b on b.account_id = d.account_id and b.limited
      window so_far as (partition by d.account_id order by d.n)
    ) t where t.net < 0 and (t.left_over < 0 or t.frozen
      or (t.sent > 0 and (t.all_sent > sent_max or t.all_sends > sends_max)))
  ), inserted as (
    insert into journal as j (scope, key, request_hash, kind, outcome, round_id, sender_id,
                              recipient_id, memo, txid)
    select f.scope, f.key, f.hash, f.kind, 'posted', f.round_id, f.sender_id,
           f.recipient_id, f.memo, f.txid
    from fresh f where f.n not in (select n from doubtful) order by f.n
    on conflict do nothing
    returning j.id, j.scope, j.key
  ), posted as (
    insert into entry as e (account_id, journal_id, line, amount, balance_after, note)
    select l.account_id, i.id, l.line, l.amount,
      b.posted + sum(l.amount) over (partition by l.account_id order by i.id, l.line), l.note
    from inserted i join fresh f on f.scope = i.scope and f.key = i.key
    join leg l on l.n = f.n
    left join balance b on b.account_id = l.account_id
    returning e.account_id, e.amount
  ), change as (
    select c.account_id, sum(c.amount) as total, sum(c.sent) as sent, sum(c.sends) as sends from (
      select p.account_id, p.amount, 0 as sent, 0 as sends from posted p
      union all
      select d.account_id, 0, d.sent, 1 from inserted i
      join fresh f on f.scope = i.scope and f.key = i.key
      join demand d on d.n = f.n and d.sent > 0) c
    group by c.account_id
  )
  update balance b set posted = b.posted + c.total,
    sent = c.sent + case when b.sent_hour = this_hour then b.sent else 0 end,
    sends = c.sends + case when b.sent_hour = this_hour then b.sends else 0 end,
    sent_hour = this_hour
  from change c
  where b.account_id = c.account_id and (c.total <> 0 or c.sends > 0);

  for one in
    select i.* from unnest(
      j_scope, j_key, j_hash, j_kind, j_round, j_sender, j_recipient, j_memo, j_txid)
      with ordinality as i(scope, key, hash, kind, round_id, sender_id, recipient_id, memo, txid, n)
    where not exists (select from journal j where j.scope = i.scope and j.key = i.key)
    order by i.n
  loop
    select case
      when bool_or(b.frozen and d.net < 0 and one.kind in ('transfer', 'stake'))
        then 'account_frozen'
      when one.kind = 'transfer' and bool_or(d.net < 0 and (
        case when b.sent_hour = this_hour then b.sent else 0 end - d.net > sent_max
        or case when b.sent_hour = this_hour then b.sends else 0 end >= sends_max))
        then 'too_fast'
      when bool_or(b.posted + d.net < 0) then 'insufficient_funds'
    end into refusal
    from (select l.account_id, sum(l.amount) as net
          from unnest(l_item, l_account, l_amount) as l(n, account_id, amount)
          where l.n = one.n group by l.account_id) d
    join balance b on b.account_id = d.account_id and b.limited;

    continue when refusal = 'too_fast';

    insert into journal as j (scope, key, request_hash, kind, outcome, round_id, sender_id,
                              recipient_id, memo, txid)
    values (one.scope, one.key, one.hash, one.kind, coalesce(refusal, 'posted'), one.round_id,
            one.sender_id, one.recipient_id, one.memo, one.txid)
    on conflict do nothing
    returning j.id into new_id;
    continue when new_id is null or refusal is not null;

    insert into entry (account_id, journal_id, line, amount, balance_after, note)
    select l.account_id, new_id, l.line, l.amount,
      b.posted + sum(l.amount) over (partition by l.account_id order by l.line), l.note
    from unnest(l_item, l_line, l_account, l_amount, l_note)
      as l(n, line, account_id, amount, note)
    left join balance b on b.account_id = l.account_id
    where l.n = one.n;
    update balance b set posted = b.posted + t.total,
      sent = t.sent + case when b.sent_hour = this_hour then b.sent else 0 end,
      sends = sign(t.sent) + case when b.sent_hour = this_hour then b.sends else 0 end,
      sent_hour = this_hour
    from (select l.account_id, sum(l.amount) as total,
            case when one.kind = 'transfer' then -least(sum(l.amount), 0) else 0 end as sent
          from unnest(l_item, l_account, l_amount) as l(n, account_id, amount)
          where l.n = one.n group by l.account_id) t
    where b.account_id = t.account_id;
  end loop;

  return query
    select i.n::int, coalesce(j.id, 0),
      case when j.id is null then 'too_fast'
           when j.request_hash = i.hash then j.outcome else 'key_reused' end,
      i.n = any (known) or i.n > min(i.n) over (partition by i.scope, i.key),
      coalesce(j.created_at, now())
    from unnest(j_scope, j_key, j_hash) with ordinality as i(scope, key, hash, n)
    left join journal j on j.scope = i.scope and j.key = i.key
    order by i.n;
end $$;
