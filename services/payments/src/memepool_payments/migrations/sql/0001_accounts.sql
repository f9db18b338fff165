-- The only ways to write accounts and balances, with `post_journals`: the application role may call
-- these functions, and may not insert. Order of locks everywhere: new accounts, round, balances by
-- account, keys.

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
  select o.id, of_kind <> 'user_receivable',
    of_kind = 'user_available' and coalesce(m.suspended or m.frozen, false)
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
