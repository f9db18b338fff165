-- Hold the stakes of votes as rounds announces them, whole batches at once: the bodies of its events,
-- votes as columns of equal length. One row for each vote that has none, and one event for each round
-- and outcome. What is malformed raises, and then nothing has happened.
--
-- What belongs together stays together in arrays of one order: plans are cached while tables are
-- still empty, and a join of what looks like one row goes through all pairs.
create function hold_votes(bodies text[], of_events uuid[], of_trace text)
returns void language plpgsql set enable_seqscan = off as $$
declare
  asked record;
  strangers uuid[];
  fresh record;
  candidate record;
  outcomes text[];
begin
  select array_agg(v.vote) as votes, array_agg(e.round_id) as rounds, array_agg(v.voter) as voters,
    array_agg(v.content) as contents, array_agg(v.amount) as amounts,
    array_agg(distinct e.round_id) as all_rounds,
    bool_and(e.round_id is not null and v.vote is not null and v.voter is not null
      and v.content is not null and v.amount between 1 and 2100000000000000) as sound
  into asked
  from (
    -- A list in JSON is one for PostgreSQL with other brackets. An amount in quotes is no number.
    select r."roundId" as round_id, translate(r."voteId", '[]"', '{}')::uuid[] as votes,
      translate(r."voterId", '[]"', '{}')::uuid[] as voters,
      translate(r."contentId", '[]"', '{}')::uuid[] as contents,
      translate(r.amount, '[]"', '{}x')::bigint[] as amounts
    from unnest(bodies) as b(body),
      json_to_record(b.body::json)
        as r("roundId" text, "voteId" text, "voterId" text, "contentId" text, amount text)
  ) e
  left join lateral unnest(e.votes, e.voters, e.contents, e.amounts)
    as v(vote, voter, content, amount) on true;
  if asked.sound is not true then
    raise exception 'a batch of votes is malformed' using errcode = 'invalid_parameter_value';
  end if;

  strangers := array(
    select v.voter from unnest(asked.voters) as v(voter)
    left join lateral (select a.id from account a
      where a.owner_id = v.voter and a.kind = 'user_available' limit 1) a on true
    where a.id is null);
  if strangers <> '{}' then
    perform open_accounts(strangers);
  end if;
  if (select count(*) from payment_round r where r.round_id = any (asked.all_rounds))
      < cardinality(asked.all_rounds) then
    perform open_escrows(asked.all_rounds);
    insert into payment_round (round_id)
      select r from unnest(asked.all_rounds) as r order by r on conflict do nothing;
  end if;
  -- Votes share the round; whoever closes it or takes a meme or vote out has it alone.
  perform from payment_round r where r.round_id = any (asked.all_rounds)
    order by r.round_id for share;

  select array_agg(v.vote) as votes, array_agg(v.round_id) as rounds,
    array_agg(v.voter) as voters, array_agg(v.content) as contents, array_agg(v.amount) as amounts,
    array_agg(v.refusal) as refusals
  into fresh
  from (
    select v.*, case when r.state <> 'open' then 'round_closed'
                     when w.content_id is not null then 'meme_withdrawn' end as refusal
    from (select distinct on (u.vote) u.*
          from unnest(asked.votes, asked.rounds, asked.voters, asked.contents, asked.amounts)
            with ordinality as u(vote, round_id, voter, content, amount, n)
          order by u.vote, u.n) v
    join payment_round r on r.round_id = v.round_id
    left join lateral (select w.content_id from withdrawn_meme w
      where w.round_id = v.round_id and w.content_id = v.content limit 1) w on true
    left join lateral (select s.vote_id from stake s where s.vote_id = v.vote limit 1) s on true
    where s.vote_id is null order by v.n
  ) v;

  select array_agg(v.vote::text) as keys, array_agg(v.round_id) as rounds,
    array_agg(v.voter) as voters, array_agg(v.amount) as amounts,
    array_agg(sha256(convert_to(concat_ws('|', v.round_id, v.voter, v.content, v.amount), 'UTF8')))
      as hashes,
    array_agg(a.id) as accounts, array_agg(e.id) as escrows, count(*)::int as count
  into candidate
  from unnest(fresh.votes, fresh.rounds, fresh.voters, fresh.contents, fresh.amounts,
              fresh.refusals)
    as v(vote, round_id, voter, content, amount, refusal)
  cross join lateral (select a.id from account a
    where a.owner_id = v.voter and a.kind = 'user_available' limit 1) a
  cross join lateral (select e.id from account e where e.round_id = v.round_id limit 1) e
  where v.refusal is null;

  if candidate.count > 0 then
    select p.outcomes into outcomes from post_journals(
      array_fill('stake'::text, array[candidate.count]), candidate.keys, candidate.hashes,
      array_fill('stake'::text, array[candidate.count]), candidate.rounds, candidate.voters,
      null, null, null, array_fill(1, array[candidate.count]),
      candidate.accounts, candidate.escrows, candidate.amounts, null) as p;
  end if;

  with decided as (
    insert into stake as s (vote_id, round_id, content_id, voter_id, amount, state, reason)
    select v.vote, v.round_id, v.content, v.voter, v.amount,
      case when v.outcome = 'posted' then 'held' else 'refused' end, nullif(v.outcome, 'posted')
    from (
      select u.*, coalesce(u.refusal,
        outcomes[count(*) filter (where u.refusal is null) over (order by u.n)]) as outcome
      from unnest(fresh.votes, fresh.rounds, fresh.voters, fresh.contents, fresh.amounts,
                  fresh.refusals)
        with ordinality as u(vote, round_id, voter, content, amount, refusal, n)
    ) v order by v.n
    on conflict do nothing
    returning s.vote_id, s.round_id, s.state, s.reason
  ), answer as (
    select d.round_id, d.state, json_agg(d.vote_id) as votes, json_agg(d.reason) as reasons,
      row_number() over () as n
    from decided d group by d.round_id, d.state
  )
  insert into outbox
    (event_id, event_type, subject, version, audience, payload, traceparent, occurred_at)
  select of_events[a.n],
    case a.state when 'held' then 'memepool.payments.stake.held.v1'
                 else 'memepool.payments.stake.rejected.v1' end,
    a.round_id, 1, 'internal',
    convert_to(case a.state
      when 'held' then json_build_object('roundId', a.round_id, 'voteId', a.votes)
      else json_build_object('roundId', a.round_id, 'voteId', a.votes, 'reason', a.reasons)
    end::text, 'UTF8'), of_trace, now()
  from answer a order by a.n;
end $$;
