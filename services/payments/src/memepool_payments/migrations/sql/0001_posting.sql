-- Post journals, each wholly or not at all: the only writer of journals and movements.
--
-- Items are the columns j_..., their movements the columns m_..., item after item, `j_lines` of them
-- for each. Every balance that they touch is locked first, in order; then the items are decided one
-- after the other in memory, exactly as if each had been posted alone; then all is written at once.
-- The outcome is 'posted', a refusal, or 'key_reused' for a key with another request.
--
-- A transfer counts against its sender's hour, with its fee. Beyond the limits (null: none) it is
-- 'too_fast', the one refusal that no key remembers.
--
-- Keys are looked up under the locks, so each must stand for an account that the item takes from or
-- gives to, or for a row that the caller has locked; none may stand twice in one call.
-- The answer is four columns in the order of the items.
--
-- Sequential scans are off because plans are cached while tables are still empty; a lateral with a
-- limit is looked up one by one, in order. Columns are read by subscript: to unnest thirteen of them
-- makes thirteen tables first. An array that is assigned to begins with as many nulls, or its first
-- element would stand at the first number that is assigned. An assignment to an element copies the
-- array if its expression reads it: `after`.
create function post_journals(
  j_scope text[], j_key text[], j_hash bytea[], j_kind text[], j_round text[],
  j_sender uuid[], j_recipient uuid[], j_memo text[], j_txid text[], j_lines int[],
  m_source bigint[], m_target bigint[], m_amount bigint[], m_note text[],
  sent_max bigint default null, sends_max int default null
) returns table (ids bigint[], outcomes text[], replays boolean[], times timestamptz[])
language plpgsql security definer
set search_path = public, pg_temp set enable_seqscan = off as $$
declare
  this_hour constant bigint := floor(extract(epoch from now()) / 3600);
  next_hour constant bigint := this_hour + 1;  -- of who began after us and had the lock before
  -- The locked balances, in order of their accounts.
  a_id bigint[];
  a_posted bigint[];
  a_limited boolean[];
  a_frozen boolean[];
  a_sent bigint[];
  a_sends int[];
  -- What becomes of each item (beside `ids` and so on) and of each movement.
  j_known_hash bytea[];
  m_journal bigint[] := array_fill(null::bigint, array[cardinality(m_amount)]);
  m_line int[] := m_journal;
  m_source_after bigint[] := m_journal;
  m_target_after bigint[] := m_journal;
  -- Those at hand.
  m int := 0;
  first int;
  amount bigint;
  source int;
  target int;
  after bigint;
  counted boolean;
  refusal text;
begin
  -- The sealer waits for transactions by their ids: have one before the first journal's number.
  perform pg_current_xact_id();
  select array_agg(b.account_id), array_agg(b.posted), array_agg(b.limited), array_agg(b.frozen),
    array_agg(case when b.sent_hour in (this_hour, next_hour) then b.sent else 0 end),
    array_agg(case when b.sent_hour in (this_hour, next_hour) then b.sends else 0 end)
  into a_id, a_posted, a_limited, a_frozen, a_sent, a_sends
  from (select * from balance where account_id = any (m_source || m_target)
        order by account_id for no key update) b;
  -- A statement of its own: it reads from a snapshot that is younger than the locks.
  select array_agg(j.id), array_agg(j.outcome), array_agg(j.created_at), array_agg(j.request_hash),
    array_agg(j.id is not null)
  into ids, outcomes, times, j_known_hash, replays
  from unnest(j_key) with ordinality as i(key, n)
  left join lateral (
    select * from journal j where j.scope = j_scope[i.n] and j.key = i.key limit 1) j on true;

  for n in 1 .. cardinality(j_key) loop
    first := m + 1;
    m := m + j_lines[n];
    if replays[n] then
      if j_known_hash[n] <> j_hash[n] then
        outcomes[n] := 'key_reused';
      end if;
      continue;
    end if;

    counted := j_kind[n] = 'transfer';
    refusal := null;
    ids[n] := nextval('journal_id_seq');
    for sign in reverse 1 .. -1 by 2 loop  -- a second time, backwards, if it is refused
      for l in first .. m loop
        amount := sign * m_amount[l];
        source := width_bucket(m_source[l], a_id);
        if a_id[source] = m_source[l] then
          if refusal is not null then
            null;
          elsif a_frozen[source] and j_kind[n] in ('transfer', 'stake', 'withdrawal') then
            refusal := 'account_frozen';
          elsif counted and (a_sent[source] + amount > sent_max
                             or l = first and a_sends[source] >= sends_max) then
            refusal := 'too_fast';
          elsif a_limited[source] and a_posted[source] < amount then
            refusal := 'insufficient_funds';
          end if;
          after := a_posted[source] - amount;
          a_posted[source] := after;
          m_source_after[l] := after;
          if counted then
            after := a_sent[source] + amount;
            a_sent[source] := after;
            if l = first then
              after := a_sends[source] + sign;
              a_sends[source] := after;
            end if;
          end if;
        end if;
        target := width_bucket(m_target[l], a_id);
        if a_id[target] = m_target[l] then
          after := a_posted[target] + amount;
          a_posted[target] := after;
          m_target_after[l] := after;
        end if;
        m_line[l] := l - first + 1;
        m_journal[l] := case when refusal is null then ids[n] end;
      end loop;
      exit when refusal is null;
    end loop;

    outcomes[n] := coalesce(refusal, 'posted');
    times[n] := now();
    if refusal = 'too_fast' then
      ids[n] := 0;
    end if;
  end loop;

  insert into journal (id, scope, key, request_hash, kind, outcome, round_id, sender_id,
                       recipient_id, memo, txid, created_at)
    overriding system value
    select ids[n], j_scope[n], i.key, j_hash[n], j_kind[n], outcomes[n], j_round[n],
           j_sender[n], j_recipient[n], j_memo[n], j_txid[n], times[n]
    from unnest(j_key) with ordinality as i(key, n)
    where not replays[n] and ids[n] > 0;
  insert into movement (journal_id, line, source, target, amount, source_after, target_after, note)
    select i.journal_id, m_line[n], m_source[n], m_target[n], m_amount[n],
           m_source_after[n], m_target_after[n], m_note[n]
    from unnest(m_journal) with ordinality as i(journal_id, n)
    where i.journal_id is not null;
  update balance b set posted = a_posted[n], sent = a_sent[n], sends = a_sends[n],
                       sent_hour = case when b.sent_hour = next_hour then next_hour
                                        else this_hour end
    from unnest(a_id) with ordinality as i(id, n)
    where b.account_id = i.id
      and (b.posted <> a_posted[n] or b.sent <> a_sent[n] or b.sends <> a_sends[n]
           or a_sends[n] > 0 and b.sent_hour not in (this_hour, next_hour));
  return next;
end $$;
