"""What must hold of the ledger at any commit: each query counts what breaks it, and finds none.

They read one snapshot, so they may run while others post. The names are those of the reference
design: I1 sums, I2 balances, I3 chains, I4 limits, I5 coins, I6 escrow, I7 plans, I12 audit blocks.
Keys (I11) are unique by constraint; acknowledged is durable (I13) is what the bank test tries.
"""

from collections.abc import Mapping

from sqlalchemy import text

from memepool_common.db import Session

INVARIANTS: Mapping[str, str] = {
    "entries_sum_to_zero": """
        select count(*) from (select sum(amount) as total from entry) t where total <> 0""",
    "journals_sum_to_zero": """
        select count(*) from (
          select from entry group by journal_id having sum(amount) <> 0) t""",
    "entries_have_a_posted_journal": """
        select count(*) from entry e
        where not exists (select from journal j where j.id = e.journal_id and j.outcome = 'posted')
           or not exists (select from account a where a.id = e.account_id)""",
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
        where (a.kind in ('user_available', 'user_held') and b.posted < 0)
           or (a.kind = 'user_receivable' and b.posted > 0)""",
    "every_user_account_has_a_balance": """
        select count(*) from account a where a.owner_id is not null
          and not exists (select from balance b where b.account_id = a.id)""",
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
            or exists (select from stake s where s.round_id = r.round_id and s.state = 'held'))""",
    "plans_of_paid_rounds_are_paid_exactly": """
        select count(*) from payment_round r join distribution d on d.round_id = r.round_id
        where r.state = 'paid' and (
          d.pot <> d.fee + d.carry_out + coalesce((select sum(x) from unnest(d.amounts) as x), 0)
          or coalesce((select sum(x) from unnest(d.amounts) as x), 0) <> coalesce((
            select sum(e.amount) from journal j
            join entry e on e.journal_id = j.id and e.amount > 0
            where j.scope = 'payout' and j.kind = 'reward' and j.round_id = r.round_id), 0))""",
    "carry_equals_what_no_round_took": """
        select count(*) from (
          select coalesce((select sum(e.amount) from entry e join account a on a.id = e.account_id
                           where a.kind = 'carry'), 0) as held,
            coalesce((select sum(c.amount) from carry c
                      left join payment_round r on r.round_id = c.taken_by
                      where c.taken_by is null or (r.state = 'paying' and r.chunks_paid = 0)), 0)
              as free) t
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
}


async def broken(session: Session) -> dict[str, int]:
    """How often each invariant is broken; empty when all is well."""
    found: dict[str, int] = {}
    for name, query in INVARIANTS.items():
        count = int((await session.execute(text(query))).scalar_one())
        if count:
            found[name] = count
    return found
