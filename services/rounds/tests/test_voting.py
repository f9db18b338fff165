"""Votes are placed in batches and counted once, whatever order things are heard in."""

import asyncio
from collections.abc import Sequence
from random import Random

import pytest

from memepool_common.ids import uuid7
from memepool_rounds.api.backlog import Backlog
from memepool_rounds.domain.errors import (
    KeyReused,
    MemeNotInRound,
    NoRoundYet,
    OwnMeme,
    RoundNotFound,
    RoundNotOpen,
    StakeTooSmall,
    Suspended,
    VotesFull,
)
from memepool_rounds.domain.rounds import RoundState
from memepool_rounds.store import rounds
from memepool_rounds.store.votes import StoredVote
from services.rounds.tests.harness import World, blocked, wish


def placed(outcomes: Sequence[StoredVote | Exception]) -> list[StoredVote]:
    return [each for each in outcomes if isinstance(each, StoredVote)]


async def tallies(world: World) -> list[tuple[int, int]]:
    found = await world.rows("select stakes, backers from submission order by submitted_at, stakes")
    return [(row.stakes, row.backers) for row in found]


async def test_a_batch_is_one_event_in_the_order_of_arrival(world: World) -> None:
    meme = (await world.enter()).content_id
    votes = placed(await world.place_all([wish(meme, amount) for amount in (5, 3, 4)]))
    assert [vote.sequence for vote in votes] == sorted(vote.sequence for vote in votes)
    (event,) = await world.events("vote.placed")
    assert event["voteId"] == [str(vote.id) for vote in votes]
    assert event["amount"] == [5, 3, 4]
    assert event["sequence"] == [vote.sequence for vote in votes]
    assert [vote.state for vote in votes] == ["pending"] * 3


async def test_without_an_amount_a_vote_carries_the_least_stake(world: World) -> None:
    meme = (await world.enter()).content_id
    assert (await world.place(meme, None)).amount == 1


async def test_each_vote_of_a_batch_is_judged_alone(world: World) -> None:
    entry = await world.enter()
    meme = entry.content_id
    barred = uuid7()
    await world.suspend(barred)
    outcomes = await world.place_all(
        [
            wish(meme, 10),
            wish(uuid7(), 10),
            wish(meme, 10, entry.creator_id),
            wish(meme, 10, barred),
            wish(meme, 10, None, 77),
            wish(meme, 10, None, 100),
        ]
    )
    assert [type(each) for each in outcomes] == [
        *(StoredVote, MemeNotInRound, OwnMeme, Suspended, RoundNotFound, StoredVote)
    ]
    assert len((await world.events("vote.placed"))[0]["voteId"]) == 2


async def test_the_policys_least_stake_holds(world: World) -> None:
    async with world.database.transaction() as session:
        await session.exec_driver_sql(
            """update round set policy = jsonb_set(policy, '{minStake}', '50')"""
        )
    meme = (await world.enter()).content_id
    with pytest.raises(StakeTooSmall, match="50 satoshis"):
        await world.place(meme, 49)
    assert (await world.place(meme, None)).amount == 50


async def test_a_round_takes_only_so_many_votes(world: World) -> None:
    meme = (await world.enter()).content_id
    outcomes = await world.place_all([wish(meme) for _ in range(5)], votes_max=3)
    assert [type(each) for each in outcomes] == [*[StoredVote] * 3, *[VotesFull] * 2]
    (refused,) = await world.place_all([wish(meme)], votes_max=3)
    assert isinstance(refused, VotesFull)


async def test_while_too_many_votes_wait_for_payments_no_more_are_taken(world: World) -> None:
    meme = (await world.enter()).content_id

    async def refused() -> bool:
        async with world.database.statement() as session:
            return await Backlog(waiting_max=40).refusal(session) is not None

    assert not await refused()
    votes = placed(await world.place_all([wish(meme) for _ in range(40)]))
    assert not await refused()
    votes += placed(await world.place_all([wish(meme)]))
    assert await refused()
    await world.hold(*votes[:5])
    assert not await refused()
    votes += placed(await world.place_all([wish(meme) for _ in range(5)]))
    assert await refused()
    await world.hold(votes[21])  # what alone was never answered does not count as many
    assert not await refused()


async def test_a_backlog_is_looked_at_once_a_second(world: World) -> None:
    meme, backlog = (await world.enter()).content_id, Backlog(waiting_max=10)
    async with world.database.statement() as session:
        assert await backlog.refusal(session) is None
    await world.place_all([wish(meme) for _ in range(11)])
    async with world.database.statement() as session:
        assert await backlog.refusal(session) is None
        problem = await Backlog(waiting_max=10).refusal(session)
    assert problem is not None
    assert (problem.status, problem.code, problem.headers) == (
        *(503, "overloaded"),
        {"Retry-After": "5"},
    )


async def test_a_replay_answers_the_vote_as_it_stands_even_after_the_round(world: World) -> None:
    meme, voter = (await world.enter()).content_id, uuid7()
    first = await world.place(meme, 7, voter_id=voter, key="k")
    assert (await world.place(meme, 7, voter_id=voter, key="k")).id == first.id
    await world.hold(first)
    assert (await world.place(meme, 7, voter_id=voter, key="k")).state == "counted"
    await world.block()  # `current` means another round now; the key is looked up before
    await world.look()
    replayed = await world.place(meme, 7, voter_id=voter, key="k")
    assert (replayed.id, replayed.round_id) == (first.id, 100)
    assert len(await world.events("vote.placed")) == 1


async def test_a_key_is_for_one_request_of_one_voter(world: World) -> None:
    meme, voter = (await world.enter()).content_id, uuid7()
    await world.place(meme, 7, voter_id=voter, key="k")
    with pytest.raises(KeyReused):
        await world.place(meme, 8, voter_id=voter, key="k")
    with pytest.raises(KeyReused):
        await world.place(meme, 7, voter_id=voter, key="k", round_id=100)
    assert (await world.place(meme, 8, voter_id=uuid7(), key="k")).amount == 8


async def test_the_same_key_twice_in_one_batch_is_one_vote(world: World) -> None:
    meme, voter = (await world.enter()).content_id, uuid7()
    outcomes = await world.place_all(
        [
            wish(meme, 7, voter, key="k"),
            wish(meme, 7, voter, key="k"),
            wish(meme, 8, voter, key="k"),
        ]
    )
    first, second, third = outcomes
    assert isinstance(first, StoredVote)
    assert first == second
    assert isinstance(third, KeyReused)


async def test_the_same_key_in_two_processes_is_one_vote(world: World) -> None:
    meme, voter = (await world.enter()).content_id, uuid7()
    outcomes = await asyncio.gather(
        *(world.place(meme, 7, voter_id=voter, key="k") for _ in range(4))
    )
    assert len({vote.id for vote in outcomes}) == 1
    assert len(await world.rows("select from vote")) == 1
    assert sum(len(each["voteId"]) for each in await world.events("vote.placed")) == 1


async def test_a_refusal_is_not_kept_under_its_key(world: World) -> None:
    meme, creator, voter = uuid7(), uuid7(), uuid7()
    with pytest.raises(MemeNotInRound):
        await world.place(meme, 7, voter_id=voter, key="k")
    await world.enter(meme, creator)
    assert (await world.place(meme, 7, voter_id=voter, key="k")).state == "pending"


async def test_held_stakes_count_with_one_event_per_batch_and_round(world: World) -> None:
    first, second = (await world.enter()).content_id, (await world.enter()).content_id
    voter = uuid7()
    votes = placed(
        await world.place_all(
            [wish(first, 5, voter), wish(first, 6, voter), wish(second, 7, voter), wish(first, 8)]
        )
    )
    await world.hold(*votes)
    (event,) = await world.events("vote.counted")
    assert event["voteId"] == [str(vote.id) for vote in votes]
    standing = dict(
        zip(
            event["tallies"]["contentId"],
            zip(event["tallies"]["stakes"], event["tallies"]["backers"], strict=True),
            strict=True,
        )
    )
    assert standing == {str(first): (19, 2), str(second): (7, 1)}
    assert event["pot"] == 26
    more = await world.place(first, 1, voter_id=voter)
    await world.hold(more)
    assert (await world.events("vote.counted"))[1]["tallies"]["backers"] == [2]


async def test_repeated_and_contradicting_answers_change_nothing(world: World) -> None:
    meme = (await world.enter()).content_id
    counted, refused = placed(await world.place_all([wish(meme, 5), wish(meme, 6)]))
    for _ in range(2):
        await world.hold(counted)
        await world.refuse(refused)
        await world.refuse(counted)
        await world.hold(refused)
    assert (await world.vote(counted)).state == "counted"
    assert await tallies(world) == [(5, 1)]
    stands = await world.vote(refused)
    assert (stands.state, stands.reason) == ("rejected", "insufficient_funds")
    (event,) = await world.events("vote.rejected")
    assert event["reason"] == ["insufficient_funds"]
    assert len(await world.events("vote.counted")) == 1


async def test_an_answer_for_votes_that_we_do_not_have_is_passed_over(world: World) -> None:
    data = {"roundId": "100", "voteId": [uuid7()]}
    await world.tell("memepool.payments.stake.held.v1", data)
    await world.tell("memepool.payments.stake.rejected.v1", data | {"reason": ["x"]})
    assert await world.events("vote.counted") == []
    assert await world.events("vote.rejected") == []


@pytest.mark.parametrize("seed", range(5))
async def test_any_order_and_repetition_gives_the_same_tallies(world: World, seed: int) -> None:
    random = Random(seed)
    memes = [(await world.enter()).content_id for _ in range(3)]
    voters = [uuid7() for _ in range(6)]
    votes = placed(
        await world.place_all(
            [
                wish(random.choice(memes), random.randint(1, 9), random.choice(voters))
                for _ in range(40)
            ]
        )
    )
    answers = [vote for vote in votes for _ in range(2)]
    random.shuffle(answers)
    refused = {vote.id for vote in votes if random.random() < 0.3}
    for start in range(0, len(answers), 7):
        batch = answers[start : start + 7]
        held = [vote for vote in batch if vote.id not in refused]
        if held:
            await world.hold(*held)
        for vote in batch:
            if vote.id in refused:
                await world.refuse(vote)
    (difference,) = await world.rows(
        "select count(*) as n from submission s left join (select content_id,"
        " sum(amount) as stakes, count(distinct voter_id) as backers from vote"
        " where state = 'counted' group by content_id) v using (content_id)"
        " where s.stakes <> coalesce(v.stakes, 0) or s.backers <> coalesce(v.backers, 0)"
    )
    assert difference.n == 0
    last = (await world.events("vote.counted"))[-1]
    assert last["pot"] == sum(vote.amount for vote in votes if vote.id not in refused)


async def test_a_vote_counts_and_is_rewarded_though_its_voter_is_suspended_meanwhile(
    world: World,
) -> None:
    meme, voter = (await world.enter()).content_id, uuid7()
    vote = await world.place(meme, 1_000, voter_id=voter)
    await world.suspend(voter)
    with pytest.raises(Suspended):
        await world.place(meme, 1_000, voter_id=voter)
    await world.hold(vote)
    await world.block()
    await world.look()
    rewards = await world.rows("select recipient, amount, reason from reward")
    assert (voter, 192, "backers:1-5") in rewards


async def test_two_replicas_count_one_voters_votes_as_one_backer(world: World) -> None:
    meme, voter = (await world.enter()).content_id, uuid7()
    votes = placed(await world.place_all([wish(meme, 5, voter) for _ in range(8)]))
    await asyncio.gather(*(world.hold(vote) for vote in votes))
    assert await tallies(world) == [(40, 1)]


async def test_a_vote_that_races_the_close_is_in_the_old_round_or_in_none(world: World) -> None:
    """Two sessions: the vote holds the round FOR SHARE, and the close waits for it."""
    meme = (await world.enter()).content_id
    await world.place(meme)  # so that the round may be closed at all
    world.clock.pass_s(61)
    world.source.mine()
    async with world.database.transaction() as session:
        held = await rounds.open_one(session, " for share")
        assert held is not None
        assert held.id == 100
        close = asyncio.create_task(world.follower.poll())
        await blocked(world)
        late = asyncio.create_task(world.place_all([wish(meme), wish(meme, round_id=100)]))
        assert not close.done()
    await close
    outcomes = await late
    for outcome in outcomes:
        # Either it was placed before the close, or it was refused for the round that it found.
        assert isinstance(outcome, StoredVote | RoundNotOpen | MemeNotInRound)
        if isinstance(outcome, StoredVote):
            assert outcome.round_id == 100
    assert (await world.round(100)).state == "closing"


async def test_who_waits_behind_the_close_finds_the_next_round(world: World) -> None:
    meme = (await world.enter()).content_id
    async with world.database.transaction() as session:
        await rounds.open_one(session, " for update")
        waiting = asyncio.create_task(world.place_all([wish(meme), wish(meme, round_id=100)]))
        await blocked(world)
        await rounds.set_closing(session, 100, RoundState.CLOSING, 101, "00", world.clock.now())
        policy = (await world.round(100)).policy
        await rounds.insert(session, 101, "00", policy, world.clock.now())
    current, named = await waiting
    assert isinstance(current, MemeNotInRound)
    assert "round 101" in str(current)
    assert isinstance(named, RoundNotOpen)


async def test_before_the_first_block_there_is_no_round(world: World) -> None:
    async with world.database.transaction() as session:
        await rounds.set_closing(session, 100, RoundState.CLOSING, 101, "00", world.clock.now())
    with pytest.raises(NoRoundYet):
        await world.place(uuid7())
