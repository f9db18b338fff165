"""Every invariant finds what it is there for, and the reconciler shows it in the metrics."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine

from memepool_common.ids import uuid7
from memepool_payments.store.holds import NewHold
from memepool_payments.store.invariants import INVARIANTS
from memepool_payments.use_cases import distribution, reconciliation, sealing
from memepool_payments.use_cases.holds import open_hold
from services.payments.tests.ballot import Ballot
from services.payments.tests.books import Books
from services.payments.tests.test_distribution import Game, close
from services.payments.tests.test_migrations import owner_url

LATER = datetime(2100, 1, 1, tzinfo=UTC)
# What an administrator of the database might do, by the invariant that must notice.
DAMAGE = {
    "movements_have_a_posted_journal": (
        "insert into movement (journal_id, line, source, target, amount) values (0, 1, 1, 2, 5)"
    ),
    "posted_journals_have_movements": (
        "insert into journal (scope, key, request_hash, kind, outcome)"
        " values ('x', 'x', '', 'transfer', 'posted')"
    ),
    "balances_equal_their_entries": "update balance set posted = posted + 1 where posted > 0",
    "balances_after_follow_each_other": (
        "update movement set target_after = target_after + 1 where target_after > 0"
    ),
    "no_limited_balance_below_zero": (
        "update balance set limited = false, posted = -1 where account_id = (select id from account"
        " where kind = 'user_available' order by id limit 1)"
    ),
    "every_user_account_has_a_balance": (
        "insert into account (kind, owner_id) values ('user_available', gen_random_uuid())"
    ),
    "held_accounts_equal_open_holds": "update hold set amount = amount + 1",
    "holds_are_opened_and_closed_once": (
        "update hold set state = 'voided', closed_at = now() where state = 'open'"
    ),
    "escrow_equals_held_stakes": (
        "update stake set state = 'refunded' where round_id = '800001' and state = 'held'"
    ),
    "escrow_of_finished_rounds_is_empty": (
        "update payment_round set state = 'paid' where round_id = '800001'"
    ),
    "plans_of_paid_rounds_are_paid_exactly": (
        "update distribution set amounts[1] = amounts[1] + 1, fee = fee - 1"
    ),
    "carry_equals_what_no_round_took": "update carry set amount = amount + 1",
    "audit_blocks_follow_each_other": "update audit_block set prev_hash = '\\x01'",
    "coins_equal_what_is_owed": "delete from coin",
}
WRONG_REWARDS = (
    "update movement set target = 2 where note = 'creator'",
    "update distribution set recipients[3] = recipients[4], recipients[4] = recipients[3]",
)


@pytest.fixture
async def lived(books: Books) -> Books:
    """A round paid, another open, a hold, a block."""
    game = await Game(books).play()
    await close(books, game.tally())
    await distribution.work(books.database)
    (alice,) = await books.funded([500])
    await Ballot(books, "800001").place((uuid7(), alice, game.meme, 100))
    async with books.database.transaction() as session:
        await open_hold(session, NewHold(uuid7(), alice, "withdrawal", 50, LATER))
    await sealing.seal(books.database)
    return books


async def test_every_invariant_finds_what_breaks_it(lived: Books) -> None:
    assert set(DAMAGE) == set(INVARIANTS)
    assert await reconciliation.reconcile(lived.database) == {}
    engine = create_engine(owner_url(lived.database.settings))
    wrong_rewards = [("plans_of_paid_rounds_are_paid_exactly", each) for each in WRONG_REWARDS]
    for name, damage in [*DAMAGE.items(), *wrong_rewards]:
        with engine.connect() as owner:
            for table in ("journal", "movement", "audit_block"):
                owner.exec_driver_sql(f"alter table {table} disable trigger user")
            owner.exec_driver_sql(damage)
            found = {
                each: owner.exec_driver_sql(query.replace("%", "%%")).scalar_one()
                for each, query in INVARIANTS.items()
            }
            owner.rollback()
        assert found[name] > 0, damage
    engine.dispose()


async def test_what_is_broken_is_a_metric(lived: Books) -> None:
    engine = create_engine(owner_url(lived.database.settings))
    broken = reconciliation.BROKEN.labels("coins_equal_what_is_owed")
    for statement, count in (
        ("update coin set amount = amount + 1 where vout = 0", 1),
        ("update coin set amount = amount - 1 where vout = 0", 0),
    ):
        with engine.begin() as owner:
            owner.exec_driver_sql(statement)
        await reconciliation.reconcile(lived.database)
        assert broken._value.get() == count
    engine.dispose()
