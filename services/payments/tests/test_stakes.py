"""Stakes and their saga: every event late, twice, and in any order."""

import asyncio
import random
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.exc import DBAPIError

from memepool_common.events import Event
from memepool_common.events.errors import is_infrastructure
from memepool_common.ids import uuid7
from memepool_payments import consumers
from memepool_payments.use_cases import stakes
from services.payments.tests.ballot import ROUND, Ballot, event
from services.payments.tests.books import Books


@pytest.fixture
def ballot(books: Books) -> Ballot:
    return Ballot(books)


HELD = "memepool.payments.stake.held.v1"
REJECTED = "memepool.payments.stake.rejected.v1"
REFUNDED = "memepool.payments.stake.refunded.v1"


async def test_a_batch_is_answered_by_one_event_for_each_outcome(ballot: Ballot) -> None:
    alice, bob = await ballot.books.funded([100, 5])
    meme = uuid7()
    held, refused = (uuid7(), alice, meme, 60), (uuid7(), bob, meme, 6)
    await ballot.place(held, refused)
    assert await ballot.states() == {
        held[0]: ("held", None),
        refused[0]: ("refused", "insufficient_funds"),
    }
    (yes,) = await ballot.announced(HELD)
    (no,) = await ballot.announced(REJECTED)
    assert yes == {"roundId": ROUND, "voteId": [str(held[0])]}
    assert no["reason"] == ["insufficient_funds"]
    assert await ballot.books.available(alice) == 40


async def test_unfunded_votes_are_refused_exactly_in_the_order_they_came(ballot: Ballot) -> None:
    (alice,) = await ballot.books.funded([100])
    meme = uuid7()
    votes = [(uuid7(), alice, meme, amount) for amount in (70, 70, 20, 11, 10, 1)]
    await ballot.place(*votes)
    states = await ballot.states()
    assert [states[vote][0] for vote, *_ in votes] == [
        "held",
        "refused",
        "held",
        "refused",
        "held",
        "refused",
    ]


async def test_a_voter_nobody_has_heard_of_gets_an_account_and_a_refusal(ballot: Ballot) -> None:
    vote = (uuid7(), uuid7(), uuid7(), 1)
    await ballot.place(vote)
    assert (await ballot.states())[vote[0]] == ("refused", "insufficient_funds")


async def test_the_same_vote_again_changes_nothing_and_answers_nothing(ballot: Ballot) -> None:
    (alice,) = await ballot.books.funded([100])
    vote = (uuid7(), alice, uuid7(), 30)
    await ballot.place(vote, vote)
    await ballot.place(vote)
    assert await ballot.books.available(alice) == 70
    assert len(await ballot.announced(HELD)) == 1


async def test_rejected_before_placed_is_void_and_never_held(ballot: Ballot) -> None:
    (alice,) = await ballot.books.funded([100])
    vote = (uuid7(), alice, uuid7(), 30)
    await ballot.reject(vote)
    await ballot.place(vote)
    assert (await ballot.states())[vote[0]][0] == "void"
    assert await ballot.books.available(alice) == 100
    assert await ballot.announced(HELD) == []


async def test_rejected_after_the_hold_is_refunded_once(ballot: Ballot) -> None:
    (alice,) = await ballot.books.funded([100])
    vote = (uuid7(), alice, uuid7(), 30)
    await ballot.place(vote)
    await ballot.reject(vote)
    await ballot.reject(vote)
    assert (await ballot.states())[vote[0]] == ("refunded", "vote_rejected")
    assert await ballot.books.available(alice) == 100
    (refunded,) = await ballot.announced(REFUNDED)
    assert (refunded["amount"], refunded["voterId"]) == ([30], [str(alice)])


async def test_a_withdrawn_meme_gives_back_and_takes_no_more(ballot: Ballot) -> None:
    alice, bob = await ballot.books.funded([100, 100])
    gone, kept = uuid7(), uuid7()
    await ballot.place((uuid7(), alice, gone, 30), (uuid7(), bob, kept, 40))
    await ballot.withdraw(gone)
    late = (uuid7(), bob, gone, 5)
    await ballot.place(late)
    await stakes.refund_withdrawn(ballot.books.database)
    await ballot.withdraw(gone)
    await stakes.refund_withdrawn(ballot.books.database)
    assert (await ballot.states())[late[0]] == ("refused", "meme_withdrawn")
    assert await ballot.books.available(alice) == 100
    assert await ballot.books.available(bob) == 60
    assert len(await ballot.announced(REFUNDED)) == 1


async def test_more_refunds_than_fit_one_transaction(
    ballot: Ballot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stakes, "REFUNDS_PER_TRANSACTION", 3)
    voters = await ballot.books.funded([10] * 8)
    meme = uuid7()
    await ballot.place(*[(uuid7(), voter, meme, 10) for voter in voters])
    await ballot.withdraw(meme)
    await stakes.refund_withdrawn(ballot.books.database)
    assert [await ballot.books.available(voter) for voter in voters] == [10] * 8
    assert [len(each["voteId"]) for each in await ballot.announced(REFUNDED)] == [3, 3, 2]


async def test_a_frozen_voter_is_refused(ballot: Ballot) -> None:
    (alice,) = await ballot.books.funded([100])
    async with ballot.books.database.transaction() as session:
        await consumers.on_user(session, [user_event(alice, suspended=True, version=3)])
    vote = (uuid7(), alice, uuid7(), 1)
    await ballot.place(vote)
    assert (await ballot.states())[vote[0]] == ("refused", "account_frozen")


def user_event(user_id: UUID, *, suspended: bool, version: int) -> Event:
    data = {
        "id": str(user_id),
        "walletAddress": f"wallet-{user_id}",
        "role": "viewer",
        "suspended": suspended,
        "createdAt": "2026-01-01T00:00:00Z",
    }
    made = event(consumers.USER_UPDATED, data)
    return Event(**{**{f: getattr(made, f) for f in made.__slots__}, "version": version})


async def test_an_older_event_does_not_undo_a_suspension(ballot: Ballot) -> None:
    (alice,) = await ballot.books.funded([100])
    async with ballot.books.database.transaction() as session:
        await consumers.on_user(session, [user_event(alice, suspended=True, version=3)])
        await consumers.on_user(session, [user_event(alice, suspended=False, version=2)])
    frozen = "select frozen from balance b join account a on a.id = b.account_id"
    assert await ballot.books.scalar(f"{frozen} where a.owner_id = :user", user=alice) is True


@pytest.mark.parametrize(
    "change",
    [
        {"amount": [0]},
        {"amount": [-1]},
        {"amount": [1.0]},
        {"amount": ["1"]},
        {"amount": [True]},
        {"amount": [2**63]},
        {"amount": [1, 2]},
        {"voteId": ["x"]},
        {"voteId": None},
        {"voteId": []},
        {"voterId": [None]},
        {"contentId": {}},
        {"roundId": None},
    ],
)
async def test_a_malformed_batch_is_poison_and_changes_nothing(
    ballot: Ballot, change: dict[str, Any]
) -> None:
    (alice,) = await ballot.books.funded([100])
    data = ballot.columns([(uuid7(), alice, uuid7(), 1)]) | change
    with pytest.raises(DBAPIError) as refused:
        async with ballot.books.database.transaction() as session:
            await consumers.on_votes_placed(session, [event(consumers.VOTE_PLACED, data)])
    assert not is_infrastructure(refused.value)
    assert await ballot.books.available(alice) == 100


@pytest.mark.parametrize("seed", range(4))
async def test_any_order_of_anything_ends_with_every_stake_accounted_for(
    ballot: Ballot, seed: int
) -> None:
    rng = random.Random(seed)
    voters = await ballot.books.funded([rng.randint(0, 200) for _ in range(6)])
    memes = [uuid7() for _ in range(3)]
    votes = [
        (uuid7(), rng.choice(voters), rng.choice(memes), rng.randint(1, 60)) for _ in range(60)
    ]
    rejected = rng.sample(votes, 12)
    batches = [votes[start : start + 9] for start in range(0, len(votes), 9)]
    acts = [partial(ballot.place, *batch) for batch in batches * 2]
    acts += [partial(ballot.reject, vote) for vote in rejected * 2]
    acts += [partial(ballot.withdraw, memes[0])] * 2
    acts += [partial(stakes.refund_withdrawn, ballot.books.database)] * 3
    rng.shuffle(acts)
    for start in range(0, len(acts), 4):
        await asyncio.gather(*[act() for act in acts[start : start + 4]])
    await stakes.refund_withdrawn(ballot.books.database)
    await ballot.books.check()
    states = await ballot.states()
    assert {states[vote][0] for vote, *_ in rejected} <= {"void", "refused", "refunded"}
    on_gone = [states[vote][0] for vote, _, meme, _ in votes if meme == memes[0]]
    assert set(on_gone) <= {"void", "refused", "refunded"}
    deadlocks = "select deadlocks from pg_stat_database where datname = current_database()"
    assert await ballot.books.scalar(deadlocks) == 0
