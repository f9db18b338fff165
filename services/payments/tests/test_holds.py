"""Holds: opened, then posted, voided or expired, once; and the faults that other ledgers had here.

Blnk's issues 41, 55, 171, 181, 182, 293 and 315 are the tests that name what went wrong.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from memepool_common.ids import uuid7
from memepool_payments.store import ledger, members
from memepool_payments.store.holds import NewHold
from memepool_payments.use_cases.holds import (
    HoldClosedError,
    HoldUnknownError,
    expire_holds,
    open_hold,
    post_hold,
    void_hold,
)
from services.payments.tests.books import Books
from services.payments.tests.site import Site

Act = Callable[[], Awaitable[None]]
PAST = datetime(2020, 1, 1, tzinfo=UTC)


class Desk:
    """Holds of one user, each call a transaction of its own."""

    def __init__(self, books: Books, user: UUID) -> None:
        self.books = books
        self.user = user

    async def open(
        self, amount: int, hold_id: UUID | None = None, expires_at: datetime | None = None
    ) -> tuple[UUID, str]:
        wanted = NewHold(hold_id or uuid7(), self.user, "withdrawal", amount, expires_at)
        async with self.books.database.transaction() as session:
            return wanted.id, (await open_hold(session, wanted)).outcome

    async def post(self, hold_id: UUID, amount: int) -> None:
        async with self.books.database.transaction() as session:
            fee = await ledger.platform_account(session, ledger.PLATFORM_FEE)
            await post_hold(session, hold_id, [(fee, amount)])

    async def void(self, hold_id: UUID) -> None:
        async with self.books.database.transaction() as session:
            await void_hold(session, hold_id)

    async def expire(self) -> None:
        await expire_holds(self.books.database)

    async def money(self) -> tuple[int, int]:
        """Available and held."""
        query = (
            "select coalesce(sum(posted) filter (where kind = 'user_available'), 0)::bigint,"
            " coalesce(sum(posted) filter (where kind = 'user_held'), 0)::bigint"
            " from account a join balance b on b.account_id = a.id where owner_id = :user"
        )
        (row,) = await self.books.rows(query, user=self.user)
        return int(row[0]), int(row[1])

    async def state(self, hold_id: UUID) -> Any:
        return await self.books.scalar("select state from hold where id = :id", id=hold_id)


@pytest.fixture
async def desk(books: Books) -> Desk:
    return Desk(books, await books.user(5_000))


async def test_what_is_held_is_available_to_nobody_and_goes_where_it_was_meant_for(
    desk: Desk,
) -> None:
    hold_id, outcome = await desk.open(2_000)
    assert outcome == "posted"
    assert await desk.money() == (3_000, 2_000)
    await desk.post(hold_id, 2_000)
    assert await desk.money() == (3_000, 0)
    assert await desk.state(hold_id) == "posted"  # 293: still marked as held after the commit


async def test_a_part_may_be_posted_and_the_rest_comes_back(desk: Desk) -> None:
    hold_id, _ = await desk.open(2_000)
    await desk.post(hold_id, 1_500)
    assert await desk.money() == (3_500, 0)
    for wrong in (0, 2_001, -1):
        with pytest.raises(ValueError, match="of a hold of"):
            await desk.post(hold_id, wrong)


async def test_six_holds_of_a_thousand_do_not_pass_on_five_thousand(desk: Desk) -> None:
    """181: the check of the balance did not count what was already held."""
    opened = await asyncio.gather(*[desk.open(1_000) for _ in range(6)])
    outcomes = sorted(outcome for _, outcome in opened)
    assert outcomes == ["insufficient_funds", *["posted"] * 5]
    assert await desk.money() == (0, 5_000)


async def test_a_refused_hold_can_be_neither_posted_nor_voided(desk: Desk) -> None:
    """182: committing a rejected hold overdrew the balance."""
    hold_id, outcome = await desk.open(5_001)
    assert outcome == "insufficient_funds"
    for act in (desk.post(hold_id, 1), desk.void(hold_id)):
        with pytest.raises(HoldUnknownError):
            await act
    await desk.books.funded([1])
    assert await desk.open(5_001, hold_id) == (hold_id, "insufficient_funds")  # for ever
    assert await desk.money() == (5_000, 0)


async def test_voiding_twice_gives_back_once(desk: Desk) -> None:
    """41: a second void paid a second time."""
    hold_id, _ = await desk.open(2_000)
    await desk.void(hold_id)
    await desk.void(hold_id)
    assert await desk.money() == (5_000, 0)
    with pytest.raises(HoldClosedError) as refused:
        await desk.post(hold_id, 2_000)
    assert refused.value.state == "voided"


async def test_of_posts_at_the_same_time_one_counts(desk: Desk) -> None:
    """171: concurrent commits had all read the same remaining amount."""
    hold_id, _ = await desk.open(1_000)
    tried = [desk.post(hold_id, 600 + number) for number in range(4)]
    results = await asyncio.gather(*tried, return_exceptions=True)
    assert [type(each) for each in results if each is not None] == [HoldClosedError] * 3
    available, held = await desk.money()
    assert 4_397 <= available <= 4_400
    assert held == 0


async def test_of_voids_posts_and_the_end_of_its_time_one_counts(desk: Desk) -> None:
    """315: concurrent refunds both went through."""
    for _ in range(8):
        hold_id, _ = await desk.open(1_000, expires_at=datetime.now(UTC) + timedelta(days=1))
        acts = [desk.void(hold_id), desk.void(hold_id), desk.post(hold_id, 1_000), desk.expire()]
        await asyncio.gather(*acts, return_exceptions=True)
        state = await desk.state(hold_id)
        assert state in {"posted", "voided"}
        if state == "posted":
            assert await desk.money() == (4_000, 0)
            return
        assert await desk.money() == (5_000, 0)


async def test_every_change_of_a_balance_by_a_hold_is_a_journal(desk: Desk) -> None:
    """55: balances had moved without a record."""
    hold_id, _ = await desk.open(2_000)
    await desk.post(hold_id, 500)
    moved = "select key, amount from journal j join movement m on m.journal_id = j.id"
    rows = await desk.books.rows(f"{moved} where scope like 'hold:%' order by j.id, line")
    assert rows == [
        (f"open:{hold_id}", 2_000),
        (f"close:{hold_id}", 500),
        (f"close:{hold_id}", 1_500),
    ]


async def test_asking_again_changes_nothing(desk: Desk) -> None:
    hold_id, _ = await desk.open(2_000)
    assert await desk.open(2_000, hold_id) == (hold_id, "posted")
    assert await desk.open(2_001, hold_id) == (hold_id, "key_reused")
    await desk.post(hold_id, 1_500)
    await desk.post(hold_id, 1_500)
    for act in (desk.post(hold_id, 1_400), desk.void(hold_id)):
        with pytest.raises(HoldClosedError):
            await act
    assert await desk.open(2_000, hold_id) == (hold_id, "posted")
    assert await desk.money() == (3_500, 0)


async def test_when_its_time_is_over_it_goes_back_and_cannot_be_posted(desk: Desk) -> None:
    late, _ = await desk.open(1_000, expires_at=PAST)
    early, _ = await desk.open(1_000, expires_at=datetime.now(UTC) + timedelta(days=1))
    never, _ = await desk.open(1_000)
    with pytest.raises(HoldClosedError):
        await desk.post(late, 1_000)  # whether or not the worker has come by
    await asyncio.gather(*[desk.expire() for _ in range(3)])
    assert [await desk.state(each) for each in (late, early, never)] == ["expired", "open", "open"]
    assert await desk.money() == (3_000, 2_000)
    with pytest.raises(HoldClosedError):
        await desk.void(late)


async def test_a_frozen_account_opens_none_and_closes_those_it_has(site: Site) -> None:
    owner = await site.user(5_000)
    desk = Desk(site.books, owner.user_id)
    before, _ = await desk.open(1_000)
    async with site.books.database.transaction() as session:
        await members.freeze(session, owner.user_id, frozen=True)
    assert (await desk.open(1_000))[1] == "account_frozen"
    await desk.void(before)
    assert await desk.money() == (5_000, 0)


async def test_the_owner_sees_what_is_held_and_what_came_back(site: Site) -> None:
    owner = await site.user(5_000)
    desk = Desk(site.books, owner.user_id)
    hold_id, _ = await desk.open(2_000)
    balance = (await site.get(owner, "/payments/balance")).json()
    assert (balance["available"], balance["held"]) == (3_000, 2_000)
    await desk.post(hold_id, 1_500)
    items = (await site.get(owner, "/payments/history")).json()["items"]
    shown = [(each["type"], each["amount"]) for each in items[:2]]
    assert shown == [("withdrawal_refund", 500), ("withdrawal", 2_000)]
