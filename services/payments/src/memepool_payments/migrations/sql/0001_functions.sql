-- The only ways to write accounts, balances, journals and entries: the application role may call
-- these, and may not insert. Order of locks everywhere: new accounts, round, balances by account,
-- keys. Sequential scans are off because plans are cached while tables are still empty.

create function open_accounts(owners uuid[], of_kind text default 'user_available')
returns void language sql security definer set search_path = public, pg_temp as $$
  with opened as (
    insert into account (kind, owner_id)
    select of_kind, owner from (select distinct unnest(owners) as owner) o
    where not exists (select from account a where a.owner_id = o.owner and a.kind = of_kind)
    order by owner
    on conflict do nothing returning id, owner_id
  )
  insert into balance (account_id, limited, frozen)
  select o.id, of_kind <> 'user_receivable', coalesce(m.suspended or m.frozen, false)
  from opened o left join member m on m.user_id = o.owner_id
$$;

create function open_escrows(rounds text[])
returns void language sql security definer set search_path = public, pg_temp as $$
  insert into account (kind, round_id)
  select 'round_escrow', round_id from (select distinct unnest(rounds) as round_id) r
  where not exists (select from account a where a.round_id = r.round_id)
  order by round_id
  on conflict do nothing
$$;

create function set_frozen(of_owner uuid, now_frozen boolean)
returns void language sql security definer set search_path = public, pg_temp as $$
  update balance set frozen = now_frozen
  where account_id = (select id from account
                      where owner_id = of_owner and kind = 'user_available')
$$;

create function lock_balances(accounts bigint[])
returns table (account_id bigint, posted bigint)
language plpgsql security definer set search_path = public, pg_temp as $$
begin
  perform from balance b where b.account_id = any (accounts)
    order by b.account_id for no key update;
  return query select b.account_id, b.posted from balance b where b.account_id = any (accounts);
end $$;

-- Post journals, each wholly or not at all. Items are columns of the j_ arrays; their legs are
-- columns of the l_ arrays, where l_item is the position (from 1) of the item they belong to.
-- What one statement can prove to be funded is posted by it; each of the rest is decided exactly,
-- in its order. The outcome is 'posted', a refusal, or 'key_reused' for a key with another request.
create function post_journals(
  j_scope text[], j_key text[], j_hash bytea[], j_kind text[], j_round text[],
  j_sender uuid[], j_recipient uuid[], j_memo text[], j_txid text[],
  l_item int[], l_line int[], l_account bigint[], l_amount bigint[], l_note text[]
) returns table (item int, journal_id bigint, outcome text, replayed boolean, created_at timestamptz)
language plpgsql security definer
set search_path = public, pg_temp set enable_seqscan = off as $$
declare
  known int[];
  one record;
  refusal text;
  new_id bigint;
begin
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
    select l.n, l.account_id, sum(l.amount) as net
    from leg l join fresh f on f.n = l.n group by l.n, l.account_id
  ), doubtful as (  -- credits of the same batch are not counted, those refused later are
    select t.n from (
      select d.n, d.net, b.frozen,
        b.posted + sum(least(d.net, 0)) over (partition by d.account_id order by d.n) as left_over
      from demand d join balance b on b.account_id = d.account_id and b.limited
    ) t where t.net < 0 and (t.left_over < 0 or t.frozen)
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
  )
  update balance b set posted = b.posted + t.total
  from (select p.account_id, sum(p.amount) as total from posted p group by p.account_id) t
  where b.account_id = t.account_id and t.total <> 0;

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
      when bool_or(b.posted + d.net < 0) then 'insufficient_funds'
    end into refusal
    from (select l.account_id, sum(l.amount) as net
          from unnest(l_item, l_account, l_amount) as l(n, account_id, amount)
          where l.n = one.n group by l.account_id) d
    join balance b on b.account_id = d.account_id and b.limited;

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
    update balance b set posted = b.posted + t.total
    from (select l.account_id, sum(l.amount) as total
          from unnest(l_item, l_account, l_amount) as l(n, account_id, amount)
          where l.n = one.n group by l.account_id) t
    where b.account_id = t.account_id;
  end loop;

  return query
    select i.n::int, j.id,
      case when j.request_hash = i.hash then j.outcome else 'key_reused' end,
      i.n = any (known) or i.n > min(i.n) over (partition by i.scope, i.key),
      j.created_at
    from unnest(j_scope, j_key, j_hash) with ordinality as i(scope, key, hash, n)
    join journal j on j.scope = i.scope and j.key = i.key
    order by i.n;
end $$;
