"""What must hold of the ledger at any commit: each query counts what breaks it, and finds none.

They read one snapshot, so they may run while others post. That everything sums to zero is the form
of a movement, that keys are unique a constraint; that the acknowledged is durable is what the bank
test tries. That every reward reached its recipient is seen by sums of hashes: of millions, a sum
needs no order.
"""

from collections.abc import Mapping

from sqlalchemy import text

from memepool_common.db import Session

INVARIANTS: Mapping[str, str] = {
    "movements_have_a_posted_journal": """
        select (select count(*) from movement m where not exists (
            select from journal j where j.id = m.journal_id and j.outcome = 'posted'))
          + (select count(*) from movement m where not exists (
            select from account a where a.id = m.source))
          + (select count(*) from movement m where not exists (
            select from account a where a.id = m.target))""",
    "posted_journals_have_movements": """
        select count(*) from journal j where j.outcome = 'posted'
          and not exists (select from movement m where m.journal_id = j.id)""",
    "balances_equal_their_entries": """
        select count(*) from balance b
        left join (select account_id, sum(amount) as total from entry group by account_id) e
          on e.account_id = b.account_id
        where b.posted <> coalesce(e.total, 0)""",
    "balances_after_follow_each_other": """
        select count(*) from (
          select balance_after, amount, lag(balance_after, 1, 0) over (
            partition by account_id order by journal_id, line) as before
          from entry where balance_after is not null) t
        where balance_after <> before + amount""",
    "no_limited_balance_below_zero": """
        select count(*) from balance b join account a on a.id = b.account_id
        where (a.kind in ('user_available', 'user_held') and (b.posted < 0 or not b.limited))
           or (a.kind = 'user_receivable' and b.posted > 0)""",
    "every_user_account_has_a_balance": """
        select count(*) from account a where a.owner_id is not null
          and not exists (select from balance b where b.account_id = a.id)""",
    "held_accounts_equal_open_holds": """
        select count(*) from account a
        join balance b on b.account_id = a.id
        left join (select owner_id, sum(amount) as total from hold where state = 'open'
                   group by owner_id) h on h.owner_id = a.owner_id
        where a.kind = 'user_held' and b.posted <> coalesce(h.total, 0)""",
    "holds_are_opened_and_closed_once": """
        select count(*) from hold h where
          not exists (select from journal j where j.scope = 'hold:' || h.owner_id
                      and j.key = 'open:' || h.id and j.outcome = 'posted')
          or (h.state <> 'open') <> exists (
            select from journal j where j.scope = 'hold:' || h.owner_id
              and j.key = 'close:' || h.id and j.outcome = 'posted')
          or h.state <> 'open' and h.amount - h.posted_amount <> (
            select coalesce(sum(m.amount), 0) from journal j
            join account f on f.owner_id = h.owner_id and f.kind = 'user_held'
            join account t on t.owner_id = h.owner_id and t.kind = 'user_available'
            join movement m on m.source = f.id and m.target = t.id and m.journal_id = j.id
            where j.scope = 'hold:' || h.owner_id and j.key = 'close:' || h.id)""",
    "escrow_equals_held_stakes": """
        select count(*) from payment_round r
        left join account a on a.round_id = r.round_id
        where r.state in ('open', 'closed', 'stopped', 'refunding')
          and coalesce((select sum(amount) from entry e where e.account_id = a.id), 0)
           <> coalesce((select sum(amount) from stake s
                        where s.round_id = r.round_id and s.state = 'held'), 0)""",
    "escrow_of_finished_rounds_is_empty": """
        select count(*) from payment_round r join account a on a.round_id = r.round_id
        where r.state in ('paid', 'refunded')
          and (coalesce((select sum(amount) from entry e where e.account_id = a.id), 0) <> 0
            or r.state = 'refunded' and exists (
              select from stake s where s.round_id = r.round_id and s.state = 'held'))""",
    "plans_of_paid_rounds_are_paid_exactly": """
        with planned as (
          select d.round_id, d.pot - d.fee - d.carry_out as rewards,
            coalesce(sum(l.amount), 0) as amounts,
            coalesce(sum(uuid_hash_extended(l.recipient, l.amount)), 0) as lines
          from payment_round r join distribution d on d.round_id = r.round_id
          left join lateral unnest(d.recipients, d.amounts) as l(recipient, amount) on true
          where r.state = 'paid' group by d.round_id
        ), paid as (
          select j.round_id, sum(uuid_hash_extended(a.owner_id, m.amount)) as lines
          from journal j join movement m on m.journal_id = j.id join account a on a.id = m.target
          where j.scope = 'payout' and j.kind = 'reward' group by j.round_id
        )
        select count(*) from planned left join paid on paid.round_id = planned.round_id
        where planned.rewards <> planned.amounts or planned.lines <> coalesce(paid.lines, 0)""",
    "carry_equals_what_no_round_took": """
        select count(*) from (
          select coalesce((select sum(e.amount) from entry e join account a on a.id = e.account_id
                           where a.kind = 'carry'), 0) as held,
            coalesce((select sum(c.amount) from carry c
                      where c.taken_by is null), 0) as free) t
        where held <> free""",
    "audit_blocks_follow_each_other": """
        select count(*) from (
          select seq, first_journal, prev_hash, row_number() over o as number,
            lag(last_journal, 1, 0) over o as before,
            lag(hash, 1, decode(repeat('00', 32), 'hex')) over o as hash_before
          from audit_block window o as (order by seq)) b
        where seq <> number or first_journal <> before + 1 or prev_hash <> hash_before""",
    "coins_equal_what_is_owed": """
        select count(*) from (
          select coalesce((select sum(c.amount) from coin c where c.state = 'free'), 0) as coins,
            coalesce((select -sum(e.amount) from entry e join account a on a.id = e.account_id
                      where a.kind = 'chain_assets'), 0) as assets) t
        where coins <> assets""",
    "deposits_equal_their_coins": """
        select count(*) from deposit d left join coin c on c.txid = d.txid and c.vout = d.vout
        where c.amount is distinct from d.amount
          or (c.state = 'pending') <> (d.state = 'pending')""",
}


async def broken(session: Session) -> dict[str, int]:
    """How often each invariant is broken; empty when all is well."""
    found: dict[str, int] = {}
    for name, query in INVARIANTS.items():
        count = int((await session.execute(text(query))).scalar_one())
        if count:
            found[name] = count
    return found
