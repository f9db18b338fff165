-- The way of a vote, one statement for a whole batch at each stage. Plans are made once, while tables
-- are still empty: so sequential scans are off, and what is looked up one by one is a lateral with a limit,
-- which no plan can turn into reading the whole table.

-- Place votes, columns of a_; without a round they are for the one that is open, without an amount
-- for the policy's least stake. `sequences` has one for each vote that is placed, null for others;
-- these `others` are told in JSON, each by its number from 1: `known` (its key's vote as it stands),
-- or why not; then the vote's columns tell what the refusal is about. Those placed are announced by
-- one event.
create function place_votes(
  a_id uuid[], a_round bigint[], a_content uuid[], a_voter uuid[], a_amount bigint[],
  a_key text[], a_hash bytea[],
  votes_max bigint, at timestamptz, of_event uuid, of_trace text,
  out open_id bigint, out least_stake bigint, out sequences bigint[], out others json
) language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
declare
  room bigint;
  refusals text[];
  new_ids uuid[];
  new_sequences bigint[];
  data json;
begin
  -- Closing a round takes its row for update. Who waited for that finds the row closed and nothing
  -- in its place; the next look sees the round that opened in the same transaction.
  for look in 1..3 loop
    select r.id, (r.policy ->> 'minStake')::bigint into open_id, least_stake
    from round r where r.state = 'open' for share;
    exit when found;
  end loop;
  -- Sequences leave gaps, so there may be fewer votes than this, never more.
  -- (Not min and max: their plan, made while the table is empty, reads the whole round.)
  room := votes_max - coalesce(1
    + (select v.sequence from vote v where v.round_id = open_id order by v.sequence desc limit 1)
    - (select v.sequence from vote v where v.round_id = open_id order by v.sequence limit 1), 0);

  select array_agg(case
      when v.id is not null then 'known'
      when a.round_id <> open_id or (open_id is null and a.round_id is not null)
        then case when r.id is null then 'round_not_found' else 'round_not_open' end
      when open_id is null then 'no_round_yet'
      when s.content_id is null then 'meme_not_in_round'
      when s.creator_id = a.voter_id then 'own_meme'
      when c.user_id is not null then 'suspended'
      when a.amount < least_stake then 'stake_too_small'
    end order by a.n) into refusals
  from unnest(a_round, a_content, a_voter, a_amount, a_key)
    with ordinality as a(round_id, content_id, voter_id, amount, key, n)
  left join lateral (
    select v.id from vote v where v.voter_id = a.voter_id and v.key = a.key limit 1) v on true
  left join lateral (select r.id from round r where r.id = a.round_id limit 1) r on true
  left join submission s
    on s.round_id = open_id and s.content_id = a.content_id and s.state = 'entered'
  left join lateral (
    select c.user_id from account c where c.user_id = a.voter_id and c.suspended limit 1) c on true;

  with fitting as (
    select a.* from unnest(a_id, a_content, a_voter, a_amount, a_key, a_hash, refusals)
      with ordinality as a(id, content_id, voter_id, amount, key, hash, refusal, n)
    where a.refusal is null order by a.n limit greatest(room, 0)
  ), placed as (
    insert into vote as v (id, round_id, content_id, voter_id, amount, placed_at, key, request_hash)
    select f.id, open_id, f.content_id, f.voter_id, coalesce(f.amount, least_stake), at, f.key,
      case when f.key is not null then f.hash end
    from fitting f order by f.n
    on conflict (voter_id, key) do nothing
    returning v.*
  )
  select array_agg(p.id), array_agg(p.sequence), json_build_object(
      'roundId', open_id::text, 'voteId', json_agg(p.id), 'voterId', json_agg(p.voter_id),
      'contentId', json_agg(p.content_id), 'amount', json_agg(p.amount),
      'sequence', json_agg(p.sequence),
      'placedAt', to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
    into new_ids, new_sequences, data
  from (select * from placed order by sequence) p;

  if new_ids is not null then
    insert into outbox
      (event_id, event_type, subject, version, audience, payload, traceparent, occurred_at)
    values (of_event, 'memepool.rounds.vote.placed.v1', open_id::text, 1, 'internal',
      convert_to(data::text, 'UTF8'), of_trace, at);
  end if;

  select array_agg(p.sequence order by a.n) into sequences
  from unnest(a_id) with ordinality as a(id, n)
  left join unnest(new_ids, new_sequences) as p(id, sequence) on p.id = a.id;
  if array_position(sequences, null) is null then
    return;
  end if;
  -- A key may have been taken by another process, or earlier in this batch: now its vote is seen.
  select json_agg(o) into others
  from (
    select a.n, case
        when v.request_hash = a.hash then 'known'
        when v.id is not null then 'idempotency_key_reused'
        else coalesce(a.refusal, 'votes_full') end as outcome,
      coalesce(v.id, a.id) as id, coalesce(v.round_id, a.round_id, open_id) as round_id,
      coalesce(v.amount, least_stake) as amount, coalesce(v.state, r.state) as state, v.reason,
      v.sequence, v.placed_at
    from unnest(a_id, a_round, a_voter, a_amount, a_key, a_hash, refusals, sequences)
      with ordinality as a(id, round_id, voter_id, amount, key, hash, refusal, sequence, n)
    left join lateral (
      select v.* from vote v where v.voter_id = a.voter_id and v.key = a.key limit 1) v on true
    left join round r on r.id = a.round_id and a.refusal = 'round_not_open'
    where a.sequence is null
  ) o;
end $$;

-- Count the votes that payments says it holds, in the bodies of its events, if they still wait for
-- that. One event for each round tells who they are and where their memes stand now.
create function count_votes(
  bodies text[], at timestamptz, of_events uuid[], of_trace text
) returns void language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
declare
  ids uuid[];
  rounds bigint[];
  batch record;
begin
  select array_agg(i.id) into ids from (
    select translate(b.body::json ->> 'voteId', '[]"', '{}')::uuid[] as ids from unnest(bodies) b(body)
  ) e, unnest(case when e.ids is null then array[null::uuid] else e.ids end) as i(id);
  if array_position(ids, null) is not null then
    raise exception 'a batch without votes' using errcode = 'invalid_parameter_value';
  end if;

  rounds := array(
    select distinct v.round_id from vote v where v.id = any (ids) and v.state = 'pending');
  perform from round r where r.id = any (rounds) order by r.id for share;
  for batch in
    select v.round_id, array_agg(v.id) as ids, array_agg(distinct v.content_id) as contents,
      row_number() over (order by v.round_id) as n
    from vote v where v.id = any (ids) and v.state = 'pending' group by v.round_id
    order by v.round_id
  loop
    -- One after another, always in this order.
    perform from submission s
      where s.round_id = batch.round_id and s.content_id = any (batch.contents)
      order by s.content_id for no key update;

    with counted as (
      update vote v set state = 'counted'
      where v.id = any (batch.ids) and v.state = 'pending'
      returning v.id, v.voter_id, v.content_id, v.amount, v.sequence
    ), newcomer as (
      insert into backer (round_id, content_id, voter_id)
      select distinct batch.round_id, c.content_id, c.voter_id from counted c
      on conflict do nothing returning content_id
    ), standing as (
      update submission s
      set stakes = s.stakes + c.stakes, backers = s.backers + c.newcomers
      from (
        select content_id, sum(amount) as stakes,
          (select count(*) from newcomer n where n.content_id = counted.content_id) as newcomers
        from counted group by content_id) c
      where s.round_id = batch.round_id and s.content_id = c.content_id
      returning s.content_id, s.stakes, s.backers
    ), told as (
      select json_agg(c.id) as id, json_agg(c.voter_id) as voter,
        json_agg(c.content_id) as content, json_agg(c.amount) as amount,
        json_agg(c.sequence) as sequence, sum(c.amount)::bigint as added
      from (select * from counted order by sequence) c having count(*) > 0
    ), tallies as (
      select json_build_object('contentId', json_agg(s.content_id), 'stakes', json_agg(s.stakes),
        'backers', json_agg(s.backers)) as data
      from standing s
    )
    insert into outbox
      (event_id, event_type, subject, version, audience, payload, traceparent, occurred_at)
    select of_events[batch.n], 'memepool.rounds.vote.counted.v1', batch.round_id::text, 1,
      'rows:voterId',
      convert_to(json_build_object(
        'roundId', batch.round_id::text, 'voteId', t.id, 'voterId', t.voter,
        'contentId', t.content, 'amount', t.amount, 'sequence', t.sequence,
        'tallies', tallies.data,
        'pot', t.added + (select sum(s.stakes)::bigint from submission s
                          where s.round_id = batch.round_id))::text, 'UTF8'),
      of_trace, at
    from told t, tallies;
  end loop;
end $$;
