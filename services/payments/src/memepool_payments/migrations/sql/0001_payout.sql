-- Pay the next lines of a round that is being paid, as one journal; false when none is left, or when
-- the round is not being paid. The round's row says how far it is, and whoever has it is alone.
create function pay_chunk(of_round text, lines_max int)
returns boolean language plpgsql set enable_seqscan = off as $$
declare
  paid int;
  plan record;
  number int;
  accounts bigint[];
  escrow bigint;
  fresh boolean;
begin
  select r.lines_paid into paid from payment_round r
    where r.round_id = of_round and r.state = 'paying' for update;
  select d.recipients[paid + 1 : paid + lines_max] as recipients,
    d.amounts[paid + 1 : paid + lines_max] as amounts,
    d.reasons[paid + 1 : paid + lines_max] as reasons
  into plan from distribution d where d.round_id = of_round;
  number := coalesce(cardinality(plan.recipients), 0);
  if number = 0 then
    return false;
  end if;

  select array_agg(a.id order by l.n) into accounts
    from unnest(plan.recipients) with ordinality as l(owner_id, n)
    cross join lateral (select a.id from account a
      where a.owner_id = l.owner_id and a.kind = 'user_available' limit 1) a;
  select a.id into escrow from account a where a.round_id = of_round;
  select p.outcomes[1] = 'posted' and not p.replays[1] into fresh from post_journals(
    array['payout'], array[format('payout:%s:%s', of_round, paid + 1)],
    array[sha256(convert_to(plan::text, 'UTF8'))], array['reward'], array[of_round],
    null, null, null, null, array[number],
    array_fill(escrow, array[number]), accounts, plan.amounts, plan.reasons) as p;
  if fresh is not true then
    raise exception 'line % of round % is said to be unpaid', paid + 1, of_round;
  end if;
  update payment_round r set lines_paid = paid + number where r.round_id = of_round;
  return true;
end $$;
