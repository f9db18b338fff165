-- Post transfers, columns of t_ of equal length, each wholly or not at all: one row for each, in
-- order. The sender pays `fee`, too, if there is one. A transfer that is posted now is announced to
-- both users, and stands in both feeds of the audit log.
create function post_transfers(
  t_sender uuid[], t_recipient uuid[], t_source bigint[], t_target bigint[], t_amount bigint[],
  t_memo text[], t_key text[], t_hash bytea[], fee bigint, sent_max bigint, sends_max int,
  of_events uuid[], of_trace text
) returns table (journal_id bigint, outcome text, replayed boolean, created_at timestamptz)
language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
declare
  number constant int := cardinality(t_key);
  scopes constant text[] := array(select 'user:' || t.sender from unnest(t_sender) as t(sender));
  of_one int := 1;
  m_source bigint[] := t_source;
  m_target bigint[] := t_target;
  m_amount bigint[] := t_amount;
  m_note text[];
  ids bigint[];
  outcomes text[];
  replays boolean[];
  times timestamptz[];
  moment constant text := to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
begin
  if fee > 0 then
    of_one := 2;
    select array_agg(m.source order by t.n, m.line), array_agg(m.target order by t.n, m.line),
      array_agg(m.amount order by t.n, m.line), array_agg(m.note order by t.n, m.line)
    into m_source, m_target, m_amount, m_note
    from account a, unnest(t_source, t_target, t_amount) with ordinality
      as t(source, target, amount, n),
      lateral (values (1, t.source, t.target, t.amount, null),
                      (2, t.source, a.id, fee, 'transfer_fee'))
      as m(line, source, target, amount, note)
    where a.kind = 'platform_fee' and a.owner_id is null and a.round_id is null;
  end if;

  select p.ids, p.outcomes, p.replays, p.times into ids, outcomes, replays, times
  from post_journals(
    scopes, t_key, t_hash, array_fill('transfer'::text, array[number]), null, t_sender,
    t_recipient, t_memo, null, array_fill(of_one, array[number]), m_source, m_target, m_amount,
    m_note, sent_max, sends_max) as p;

  insert into outbox
    (event_id, event_type, subject, version, audience, payload, traceparent, occurred_at)
  select of_events[n], 'memepool.payments.transfer.posted.v1', t.id || '-1', 1,
    t_sender[n] || ' ' || t_recipient[n],
    convert_to(json_build_object(
      'transactionId', t.id || '-1', 'sender', t_sender[n], 'recipient', t_recipient[n],
      'amount', t_amount[n], 'memo', t_memo[n], 'postedAt', moment)::text, 'UTF8'),
    of_trace, now()
  from unnest(ids) with ordinality as t(id, n)
  where outcomes[n] = 'posted' and not replays[n];

  insert into audit_log (at, actor_id, account_id, action, subject, outcome, details)
  select now(), t_sender[n], concerned.user_id, 'payments.transfer.posted', t.id || '-1', 'done',
    jsonb_build_object('amount', t_amount[n])
  from unnest(ids) with ordinality as t(id, n),
    lateral (values (t_sender[n]), (t_recipient[n])) as concerned(user_id)
  where outcomes[n] = 'posted' and not replays[n];

  return query
    select t.id, outcomes[n], replays[n], times[n] from unnest(ids) with ordinality as t(id, n);
end $$;
