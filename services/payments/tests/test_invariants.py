"""Every invariant finds what it is there for, and the reconciler shows it in the metrics."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine

from memepool_common.ids import uuid7
from memepool_payments.store import deposits, ledger
from memepool_payments.store.deposits import Address
from memepool_payments.store.holds import NewHold
from memepool_payments.store.invariants import INVARIANTS
from memepool_payments.use_cases import distribution, reconciliation, sealing
from memepool_payments.use_cases.holds import open_hold, post_hold
from services.payments.tests.ballot import Ballot
from services.payments.tests.books import Books, transfer_journal
from services.payments.tests.test_distribution import Game, close
from services.payments.tests.test_migrations import owner_url

LATER = datetime(2100, 1, 1, tzinfo=UTC)
# What an administrator of the database might do, by the invariant that must notice.
DAMAGE = {
    "movements_have_a_posted_journal": (
        "insert into movement (journal_id, line, source, target, amount) values (0, 1, 1, 2, 5)",
        "update journal set outcome = 'account_frozen' where kind = 'reward'",
        "update movement set source = 0 where note = 'creator'",
        "update movement set target = 0 where note = 'creator'",
    ),
    "posted_journals_have_movements": (
        (
            "insert into journal (scope, key, request_hash, kind, outcome)"
            " values ('x', 'x', '', 'transfer', 'posted')"
        ),
        "update journal set outcome = 'posted' where outcome = 'insufficient_funds'",
    ),
    "balances_equal_their_entries": (
        "update balance set posted = posted + 1 where posted > 0",
        "update movement set amount = amount + 1 where note = 'creator'",
    ),
    "balances_after_follow_each_other": (
        "update movement set target_after = target_after + 1 where target_after > 0",
        "update movement set source_after = source_after + 1 where source_after > 0",
    ),
    "no_limited_balance_below_zero": (
        "update balance set limited = false, posted = -1 where posted > 0",
        "update balance set limited = false where posted > 0",
        "update balance set posted = 1 where not limited",
    ),
    "every_user_account_has_a_balance": (
        "insert into account (kind, owner_id) values ('user_available', gen_random_uuid())",
        "delete from balance where not limited",
    ),
    "held_accounts_equal_open_holds": (
        "update hold set amount = amount + 1",
        "delete from hold where state = 'open'",
    ),
    "holds_are_opened_and_closed_once": (
        "update hold set state = 'voided', closed_at = now() where state = 'open'",
        (
            "update hold set state = 'open', closed_at = null, posted_amount = 0"
            " where state = 'posted'"
        ),
        "update hold set state = 'voided', posted_amount = 0 where state = 'posted'",
        "update hold set posted_amount = posted_amount + 1 where state = 'posted'",
        "update hold set id = gen_random_uuid() where state = 'open'",
    ),
    "escrow_equals_held_stakes": (
        "update stake set state = 'refunded' where round_id = '800001' and state = 'held'",
        "delete from stake where round_id = '800001'",
    ),
    "escrow_of_finished_rounds_is_empty": (
        "update payment_round set state = 'paid' where round_id = '800001'",
        "update payment_round set state = 'refunded' where round_id = '800000'",
    ),
    "plans_of_paid_rounds_are_paid_exactly": (
        "update distribution set amounts[1] = amounts[1] + 1, fee = fee - 1",
        "update movement set target = 2 where note = 'creator'",
        "update distribution set recipients[3] = recipients[4], recipients[4] = recipients[3]",
    ),
    "carry_equals_what_no_round_took": (
        "update carry set amount = amount + 1",
        "update carry set taken_by = '800001'",
    ),
    "audit_blocks_follow_each_other": (
        "update audit_block set prev_hash = '\\x01'",
        "update audit_block set seq = seq + 1",
        "update audit_block set first_journal = first_journal + 1",
    ),
    "coins_equal_what_is_owed": ("delete from coin where state = 'free'",),
    "deposits_equal_their_coins": (
        "delete from coin where state = 'pending'",
        "update coin set amount = amount + 1 where state = 'pending'",
        "update deposit set amount = amount + 1",
        "update coin set state = 'free'",
    ),
}


@pytest.fixture
async def lived(books: Books) -> Books:
    """A round paid, another open, a refusal, holds, a debtor, a deposit on its way, a block."""
    game = await Game(books).play()
    await close(books, game.tally())
    await distribution.work(books.database)
    alice, bob = await books.funded([500, 0])
    await Ballot(books, "800001").place((uuid7(), alice, game.meme, 100))
    held = NewHold(uuid7(), alice, "withdrawal", 50, LATER)
    paid = held._replace(id=uuid7())
    async with books.database.transaction() as session:
        await ledger.post(session, [await transfer_journal(session, bob, alice, 1, "unfunded")])
        for hold in (held, paid):
            await open_hold(session, hold)
        fee = await ledger.platform_account(session, ledger.PLATFORM_FEE)
        await post_hold(session, paid.id, [(fee, 45)])
        await ledger.open_accounts(session, [bob], ledger.RECEIVABLE)
        await deposits.add(session, Address(bob, 0, None), "ab" * 32, 0, 7)
    await sealing.seal(books.database)
    return books


async def test_every_invariant_finds_what_breaks_it(lived: Books) -> None:
    assert set(DAMAGE) == set(INVARIANTS)
    assert await reconciliation.reconcile(lived.database) == {}
    engine = create_engine(owner_url(lived.database.settings))
    for name, kinds in DAMAGE.items():
        for damage in kinds:
            with engine.connect() as owner:
                for table in ("journal", "movement", "audit_block"):
                    owner.exec_driver_sql(f"alter table {table} disable trigger user")
                assert owner.exec_driver_sql(damage).rowcount > 0, damage
                query = INVARIANTS[name].replace("%", "%%")
                assert owner.exec_driver_sql(query).scalar_one() > 0, damage
                owner.rollback()
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
