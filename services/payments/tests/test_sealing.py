"""The audit chain: complete, made by one, and nothing can be changed behind its back."""

import asyncio
import os
import sys
from uuid import UUID

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import create_engine, text

from memepool_payments.domain import sealing as chain
from memepool_payments.store import invariants, ledger
from memepool_payments.use_cases import patrol, reconciliation, sealing
from services.payments.tests.books import Books, transfer_journal
from services.payments.tests.site import Site, refused, settings_of
from services.payments.tests.test_migrations import owner_url


async def _send(books: Books, users: list[UUID], key: str) -> None:
    async with books.database.transaction() as session:
        await ledger.post(session, [await transfer_journal(session, users[0], users[1], 1, key)])


async def _journals(books: Books) -> int:
    return int(await books.scalar("select count(*) from journal"))


def _tamper(books: Books, *statements: str) -> None:
    """As somebody with the owner's role and bad intentions."""
    engine = create_engine(owner_url(books.database.settings))
    with engine.begin() as owner:
        for table in ("journal", "movement", "audit_block"):
            owner.execute(text(f"alter table {table} disable trigger user"))
        for statement in statements:
            owner.execute(text(statement))
        for table in ("journal", "movement", "audit_block"):
            owner.execute(text(f"alter table {table} enable trigger user"))
    engine.dispose()


async def test_every_journal_is_in_one_block_and_the_chain_verifies(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "JOURNALS_MAX", 4)
    assert (await sealing.verify(books.database)).blocks == 0
    users = await books.funded([100, 5])
    for number in range(9):
        await _send(books, users, f"{number}")
    assert await sealing.seal(books.database) == 3
    assert await sealing.seal(books.database) == 0
    await _send(books, users, "later")
    await asyncio.gather(*[sealing.seal(books.database) for _ in range(3)])
    verdict = await sealing.verify(books.database)
    assert (verdict.blocks, verdict.journals, verdict.problem) == (4, await _journals(books), None)
    assert verdict.head is not None
    held = await sealing.verify(books.database, contains=verdict.head.hash)
    assert held.problem is None
    assert (await sealing.verify(books.database, contains=bytes(32))).problem is not None


async def test_a_number_that_is_still_under_way_is_waited_for(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "WAIT_S", 0.05)
    first, second = await books.funded([10, 10]), await books.funded([10, 10])
    await sealing.seal(books.database)
    async with books.database.transaction() as session:
        slow = await transfer_journal(session, first[0], first[1], 1, "slow")
        await ledger.post(session, [slow])
        await _send(books, second, "fast")  # numbered later, committed earlier
        assert await sealing.seal(books.database) == 0
    assert await sealing.seal(books.database) == 1
    verdict = await sealing.verify(books.database)
    assert (verdict.journals, verdict.problem) == (await _journals(books), None)


CHANGES = [
    "update movement set amount = amount * 2 where journal_id = 3",
    "update movement set note = 'x' where journal_id = 3 and amount > 0",
    "delete from movement where journal_id = 3",
    "delete from journal where id = 3",
    "update journal set memo = 'x' where id = 3",
    "update journal set recipient_id = sender_id where id = 3",
    (
        "insert into movement (journal_id, line, source, target, amount)"
        " select 3, 9, source, target, amount from movement where journal_id = 4"
    ),
    "update audit_block set rows_hash = hash where seq = 2",
    "delete from audit_block where seq = 1",
]


async def test_any_change_behind_the_ledgers_back_is_found(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "JOURNALS_MAX", 3)
    users = await books.funded([100, 5])
    for number in range(6):
        await _send(books, users, f"{number}")
    await sealing.seal(books.database)
    tables = ("journal", "movement", "audit_block")
    _tamper(books, *[f"create table kept_{t} as table {t}" for t in tables])
    for change in CHANGES:
        _tamper(books, change)
        assert (await sealing.verify(books.database)).problem is not None, change
        _tamper(
            books,
            *[f"truncate {table}" for table in tables],
            "insert into journal overriding system value table kept_journal",
            "insert into movement select * from kept_movement",
            "insert into audit_block select * from kept_audit_block",
        )
        assert (await sealing.verify(books.database)).problem is None
    _tamper(books, *[f"drop table kept_{t}" for t in tables])


async def test_the_patrol_finds_it_on_its_way_and_stops_withdrawals(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> float | None:
        return REGISTRY.get_sample_value("memepool_ledger_broken", {"invariant": patrol.SEALED})

    async def stopped() -> bool:
        return bool(await books.scalar("select count(*) from withdrawal_stop"))

    monkeypatch.setattr(sealing, "JOURNALS_MAX", 3)
    monkeypatch.setattr(patrol, "LIMIT_S", 0)  # a block at a time
    users = await books.funded([100, 5])
    for number in range(7):
        await _send(books, users, f"{number}")
    blocks = await sealing.seal(books.database)
    watch = patrol.Patrol(books.database)
    for _ in range(blocks + 2):
        await watch.walk()
    assert (broken(), await stopped()) == (0, False)
    _tamper(books, "update journal set memo = 'x' where id = 1")
    for _ in range(blocks - 1):  # it was past the first block, and gets there again
        await watch.walk()
        assert not await stopped()
    for _ in range(3):
        await watch.walk()
    assert (broken(), await stopped()) == (1, True)
    _tamper(books, "update journal set memo = null where id = 1")
    await watch.walk()
    assert broken() == 0


def test_the_lines_of_a_block_cannot_flow_into_each_other() -> None:
    one = chain.block_of(None, 1, 2, [chain.Row("ab", 1), chain.Row("c", 1)])
    other = chain.block_of(None, 1, 2, [chain.Row("a", 1), chain.Row("bc", 1)])
    assert one.hash != other.hash


async def test_the_command_says_so_and_its_exit_code_too(books: Books) -> None:
    users = await books.funded([100, 5])
    await _send(books, users, "1")
    await sealing.seal(books.database)
    settings = settings_of(books.database.settings, "http://127.0.0.1:9")
    prefix = "MEMEPOOL_PAYMENTS_"
    environment = os.environ | {
        f"{prefix}DATABASE__URL": settings.database.url.get_secret_value(),
        f"{prefix}DATABASE__APP_ROLE": settings.database.app_role,
        f"{prefix}AUTHN__INTERNAL_URL": settings.authn.internal_url,
        f"{prefix}CHAIN__DEPOSIT_XPUB": settings.chain.deposit_xpub,
        f"{prefix}CHAIN__NETWORK": "regtest",
    }

    async def run() -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "memepool_payments", "verify"),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        return process.returncode, said.decode()

    code, said = await run()
    assert (code, said[:9]) == (0, "1 blocks,"), said
    _tamper(books, "update journal set memo = 'x' where id = 2")
    code, said = await run()
    assert code == 1
    assert "BROKEN: block 1 (journals 1 to " in said
    _tamper(books, "update journal set memo = null where id = 2")


async def test_a_breach_stops_withdrawals_until_a_person_lifts_it(site: Site) -> None:
    books = site.books
    alice = await site.user(100)
    await reconciliation.reconcile(books.database)
    body, key = {"amount": 5}, {"Idempotency-Key": "w"}
    path = "/payments/withdrawals"
    answer = await site.call(alice, "POST", path, json=body, headers=key)
    refused(answer, 501, "not_built_yet")
    _tamper(books, "update coin set amount = amount - 1")
    assert await reconciliation.reconcile(books.database) == {"coins_equal_what_is_owed": 1}
    _tamper(books, "update coin set amount = amount + 1")
    assert await reconciliation.reconcile(books.database) == {}
    answer = await site.call(alice, "POST", path, json=body, headers=key)
    refused(answer, 503, "withdrawals_stopped")
    assert reconciliation.STOPPED._value.get() == 1
    action = "select count(*) from audit_log where action = 'payments.withdrawals.stopped'"
    assert await books.scalar(action) == 1
    _tamper(books, "delete from withdrawal_stop")
    answer = await site.call(alice, "POST", path, json=body, headers=key)
    refused(answer, 501, "not_built_yet")


async def test_a_missing_block_breaks_an_invariant(books: Books) -> None:
    users = await books.funded([100, 5])
    for number in range(2):
        await _send(books, users, f"{number}")
        await sealing.seal(books.database)
    _tamper(books, "create table kept as select * from audit_block where seq = 1")
    _tamper(books, "delete from audit_block where seq = 1")
    async with books.database.read() as session:
        assert await invariants.broken(session) == {"audit_blocks_follow_each_other": 1}
    _tamper(books, "insert into audit_block select * from kept", "drop table kept")
