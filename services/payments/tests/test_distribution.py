"""A closed round: paid to the satoshi, once, whatever dies meanwhile; or stopped, unpaid."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any
from uuid import UUID

import psycopg
import pytest
from pydantic import ValidationError
from sqlalchemy import create_engine, text

from memepool_common.ids import uuid7
from memepool_payments import consumers
from memepool_payments.domain.distribution import Holdings, Plan, objection
from memepool_payments.store import distributions, reads
from memepool_payments.use_cases import distribution
from services.payments.tests.ballot import ROUND, Ballot, event
from services.payments.tests.books import Books

DISTRIBUTED = "memepool.payments.rewards.distributed.v1"
STOPPED = "memepool.payments.distribution.stopped.v1"
Lines = Sequence[tuple[UUID, int, str]]


def closed(
    stakes: int, votes: int, lines: Lines, creators: Sequence[UUID], **change: Any
) -> dict[str, Any]:
    """RoundClosed with 2 % fee; what is left over is carried out."""
    pot = stakes + change.get("carryIn", 0)
    fee = pot * 200 // 10_000
    return {
        "roundId": ROUND,
        "closingBlockHeight": 800_001,
        "closingBlockHash": "00" * 32,
        "policy": {"id": "standard-1", "feeBp": 200},
        "countedVotes": votes,
        "stakes": stakes,
        "carryIn": 0,
        "carrySources": [],
        "pot": pot,
        "fee": fee,
        "carryOut": pot - fee - sum(amount for _, amount, _ in lines),
        "ranking": [{"creatorId": str(creator)} for creator in creators],
        "rewards": [
            {"recipient": str(recipient), "amount": amount, "reason": reason}
            for recipient, amount, reason in lines
        ],
        "roots": {"votes": "00" * 32, "rewards": "11" * 32},
        "void": [],
        "withdrawn": [],
        "closedAt": "2026-01-01T00:00:00Z",
    } | change


async def close(books: Books, data: dict[str, Any]) -> None:
    async with books.database.transaction() as session:
        await consumers.on_round_closed(
            session, [event(consumers.ROUND_CLOSED, data)], fee_basis_points_max=200
        )


class Game:
    """A round with two voters, a creator and a meme; 200 satoshis at stake."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.ballot = Ballot(books)
        self.meme = uuid7()
        self.creator = uuid7()
        self.voters: list[UUID] = []
        self.votes: list[tuple[UUID, UUID, UUID, int]] = []

    async def play(self) -> "Game":
        self.voters = await self.books.funded([100, 150])
        self.votes = [(uuid7(), voter, self.meme, 100) for voter in self.voters]
        await self.ballot.place(*self.votes)
        return self

    @property
    def lines(self) -> Lines:
        return [
            (self.creator, 100, "creator"),
            (self.creator, 11, "place:1"),
            (self.voters[0], 40, "backers:1-5"),
            (self.voters[1], 30, "backers:1-5"),
        ]

    def tally(self, **change: Any) -> dict[str, Any]:
        return closed(200, 2, self.lines, [self.creator]) | change

    async def state(self) -> str:
        return str(
            await self.books.scalar(
                "select state from payment_round where round_id = :round", round=ROUND
            )
        )

    async def available(self) -> list[int]:
        people = [self.creator, *self.voters]
        return [await self.books.available(person) for person in people]


@pytest.fixture
async def game(books: Books) -> Game:
    return await Game(books).play()


async def test_every_line_fee_and_carry_reach_their_accounts(game: Game) -> None:
    await close(game.books, game.tally())
    await distribution.work(game.books.database)
    assert await game.state() == "paid"
    assert await game.available() == [111, 40, 80]
    carry = "select round_id, amount, taken_by from carry"
    assert await game.books.rows(carry) == [(ROUND, 15, None)]
    fees = (
        "select sum(e.amount) from entry e join account a on a.id = e.account_id"
        " where a.kind = 'platform_fee'"
    )
    assert await game.books.scalar(fees) == 4
    (told,) = await game.books.announced(DISTRIBUTED)
    assert {key: told[key] for key in ("pot", "fee", "rewards", "carryOut")} == {
        "pot": 200,
        "fee": 4,
        "rewards": 181,
        "carryOut": 15,
    }
    async with game.books.database.read() as session:
        balances = await reads.balances(session, game.voters[0], 6)
    assert (balances.available, balances.held) == (40, 0)  # the stake has gone with its round


async def test_the_same_round_closed_again_pays_nothing_more(game: Game) -> None:
    await close(game.books, game.tally())
    await distribution.work(game.books.database)
    await close(game.books, game.tally(fee=0, carryOut=19))
    await distribution.work(game.books.database)
    assert await game.available() == [111, 40, 80]
    assert len(await game.books.announced(DISTRIBUTED)) == 1


async def test_a_round_without_counted_votes_is_processed_all_the_same(books: Books) -> None:
    (alice,) = await books.funded([50])
    ballot = Ballot(books)
    void = (uuid7(), alice, uuid7(), 50)
    await ballot.place(void)
    await close(books, closed(0, 0, [], [], void=[str(void[0])]))
    await distribution.work(books.database)
    (told,) = await books.announced(DISTRIBUTED)
    assert (told["pot"], told["carryOut"]) == (0, 0)
    assert await books.available(alice) == 50


async def test_a_late_stake_is_refused_and_no_mismatch(game: Game) -> None:
    (carol,) = await game.books.funded([10])
    late = (uuid7(), carol, game.meme, 10)
    await close(game.books, game.tally(void=[str(late[0])]))
    await game.ballot.place(late)
    await distribution.work(game.books.database)
    assert await game.state() == "paid"
    assert (await game.ballot.states())[late[0]][0] == "void"
    later = (uuid7(), carol, game.meme, 10)
    await game.ballot.place(later)
    assert (await game.ballot.states())[later[0]] == ("refused", "round_closed")
    assert await game.books.available(carol) == 10


async def test_void_and_withdrawn_stakes_go_back_before_the_sums_are_compared(
    game: Game, monkeypatch: pytest.MonkeyPatch
) -> None:
    carol, dave = await game.books.funded([10, 20])
    gone = uuid7()
    void, removed = (uuid7(), carol, game.meme, 10), (uuid7(), dave, gone, 20)
    await game.ballot.place(void, removed)
    await close(game.books, game.tally(void=[str(void[0])], withdrawn=[str(gone)]))
    await distribution.work(game.books.database)
    assert await game.state() == "paid"
    assert [await game.books.available(user) for user in (carol, dave)] == [10, 20]
    await game.ballot.reject(void)
    await game.ballot.withdraw(gone)
    assert [await game.books.available(user) for user in (carol, dave)] == [10, 20]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"countedVotes": 3}, "stakes_differ"),
        ({"stakes": 201, "pot": 201, "carryOut": 16}, "stakes_differ"),
        ({"pot": 201}, "pot_differs"),
        ({"fee": 5, "carryOut": 14}, "fee_too_high"),
        ({"policy": {"feeBp": 10_000}, "fee": 5, "carryOut": 14}, "fee_too_high"),
        ({"carryOut": 16}, "sum_differs"),
        ({"carryOut": 14}, "sum_differs"),
        ({"carryIn": 10, "pot": 210, "carryOut": 25}, "carry_differs"),
        (
            {
                "carryIn": 10,
                "carrySources": [{"roundId": "799999", "amount": 10}],
                "pot": 210,
                "carryOut": 25,
            },
            "carry_not_free",
        ),
        ({"ranking": []}, "recipient_without_stake"),
    ],
)
async def test_a_mismatch_stops_the_round_loudly_with_nothing_paid(
    game: Game, change: dict[str, Any], code: str
) -> None:
    before = await game.available()
    await close(game.books, game.tally(**change))
    await distribution.work(game.books.database)
    await distribution.work(game.books.database)
    assert await game.state() == "stopped"
    assert await game.available() == before
    (told,) = await game.books.announced(STOPPED)
    assert told["reason"].startswith(f"{code}:")
    assert await game.books.announced(DISTRIBUTED) == []


async def test_a_stopped_round_does_not_hold_up_another(books: Books) -> None:
    game = await Game(books).play()
    await close(books, game.tally(countedVotes=9))
    (alice,) = await books.funded([100])
    other = Ballot(books, "800001")
    await other.place((uuid7(), alice, game.meme, 100))
    paid = closed(100, 1, [(alice, 98, "backers:1-5")], [], roundId="800001")
    await close(books, paid)
    await distribution.work(books.database)
    assert await game.state() == "stopped"
    assert await books.available(alice) == 98


async def test_carry_is_taken_by_one_round_only(books: Books) -> None:
    game = await Game(books).play()
    await close(books, game.tally())
    await distribution.work(books.database)
    (alice,) = await books.funded([300])
    for round_id, fate in (("800001", "paid"), ("800002", "stopped")):
        await Ballot(books, round_id).place((uuid7(), alice, game.meme, 85))
        data = closed(
            85,
            1,
            [(alice, 50, "backers:1-5")],
            [],
            roundId=round_id,
            carryIn=15,
            carrySources=[{"roundId": ROUND, "amount": 15}],
        )
        await close(books, data)
        await distribution.work(books.database)
        state = "select state from payment_round where round_id = :round"
        assert await books.scalar(state, round=round_id) == fate
    taken = "select taken_by from carry where round_id = :round"
    assert str(await books.scalar(taken, round=ROUND)) == "800001"


async def test_a_chunk_that_fails_has_not_happened_and_is_paid_later(
    game: Game, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distribution, "LINES_MAX", 1)
    await close(game.books, game.tally())
    assert game.books.database.settings.owner_url is not None
    owner = create_engine(game.books.database.settings.owner_url.get_secret_value())
    function = (
        "create function fail() returns trigger language plpgsql as"
        " $$ begin raise exception 'the commit fails'; end $$"
    )
    trigger = (
        "create constraint trigger fail after update on payment_round deferrable initially deferred"
        " for each row when (new.lines_paid > old.lines_paid) execute function fail()"
    )
    steps = 0
    more = True
    while more:
        with owner.begin() as connection:
            connection.exec_driver_sql(function)
            connection.exec_driver_sql(trigger)
        paid = "select lines_paid from payment_round"
        before = await game.books.scalar(paid)
        with contextlib.suppress(psycopg.Error):
            await distribution.step(game.books.database, ROUND)
        await game.books.check()
        assert await game.books.scalar(paid) == before
        with owner.begin() as connection:
            connection.exec_driver_sql("drop function fail() cascade")
        more = await distribution.step(game.books.database, ROUND)
        await game.books.check()
        steps += 1
    owner.dispose()
    assert await game.state() == "paid"
    assert steps == len(game.lines) + 1
    assert await game.available() == [111, 40, 80]


async def test_a_payout_goes_on_with_larger_or_smaller_journals(
    game: Game, monkeypatch: pytest.MonkeyPatch
) -> None:
    await close(game.books, game.tally())
    for lines_max in (1, 2, 1, 2):  # the judgement, then lines 1-2, 3, 4
        monkeypatch.setattr(distribution, "LINES_MAX", lines_max)
        assert await distribution.step(game.books.database, ROUND)
    await distribution.work(game.books.database)
    keys = "select key from journal where kind = 'reward' order by id"
    assert await game.books.rows(keys) == [(f"payout:{ROUND}:{line}",) for line in (1, 3, 4)]
    assert await game.available() == [111, 40, 80]


async def test_two_workers_at_once_pay_once(game: Game) -> None:
    await close(game.books, game.tally())
    await asyncio.gather(*[distribution.work(game.books.database) for _ in range(3)])
    assert await game.state() == "paid"
    assert await game.available() == [111, 40, 80]
    assert len(await game.books.announced(DISTRIBUTED)) == 1


async def test_many_lines_are_paid_in_journals_of_two_hundred_and_fifty(books: Books) -> None:
    voters = await books.funded([10] * 301)
    ballot = Ballot(books)
    meme = uuid7()
    await ballot.place(*[(uuid7(), voter, meme, 10) for voter in voters])
    lines = [(voter, 9, "backers:1-2000") for voter in voters]
    await close(books, closed(3_010, 301, lines, []))
    await distribution.work(books.database)
    journals = (
        "select j.key, count(*) from journal j join movement e on e.journal_id = j.id"
        " where j.kind = 'reward' group by j.id, j.key order by j.id"
    )
    assert await books.rows(journals) == [
        (f"payout:{ROUND}:1", 250),
        (f"payout:{ROUND}:251", 51),
    ]
    assert await books.available(voters[-1]) == 9


@pytest.mark.parametrize(
    "change",
    [
        {"rewards": [{"recipient": str(uuid7()), "amount": 0, "reason": "x"}]},
        {"rewards": [{"recipient": "nobody", "amount": 1, "reason": "x"}]},
        {"pot": -1},
        {"pot": 2**63},
        {"fee": 1.5},
        {"policy": {}},
        {"policy": {"feeBp": 10_001}},
        {"carrySources": [{"roundId": "1", "amount": 1}] * 2},
    ],
)
async def test_a_malformed_tally_is_poison_and_changes_nothing(
    game: Game, change: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        await close(game.books, game.tally(**change))
    assert await game.state() == "open"


def test_an_accepted_plan_has_no_objection() -> None:
    alice = uuid7()
    plan = Plan(
        round_id="1",
        counted_votes=1,
        stakes=1_000,
        carry_in=0,
        carry_sources={},
        pot=1_000,
        fee=20,
        fee_basis_points=200,
        carry_out=780,
        creators=frozenset(),
        rewards=200,
    )
    assert objection(plan, Holdings(1, 1_000, 1_000, {}, ())) is None
    assert objection(plan, Holdings(1, 1_000, 1_000, {}, {alice})) is not None
    assert objection(plan, Holdings(1, 1_000, 999, {}, ())) is not None


async def test_a_recorded_plan_reads_back_as_it_was_written(game: Game) -> None:
    closed_event = consumers.RoundClosed.model_validate(game.tally(void=[str(uuid7())]))
    recorded = closed_event.recorded(200)
    async with game.books.database.transaction() as session:
        await distributions.record(session, recorded)
        assert await distributions.load(session, ROUND) == recorded.plan
        lines = "select recipients, amounts, reasons, void, roots from distribution"
        (kept,) = await session.execute(text(lines))
    assert tuple(kept) == astuple(recorded)[1:]
