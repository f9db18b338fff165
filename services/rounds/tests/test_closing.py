"""From the last vote to the settled round: bounded waits, one tally, carry, refunds."""

import asyncio

import pytest
from sqlalchemy import text

from memepool_rounds.domain.errors import IllegalTransition
from memepool_rounds.domain.rounds import RoundState
from memepool_rounds.store.results import CarryTaken
from memepool_rounds.use_cases.closing import look_at
from memepool_rounds.use_cases.settling import ContradictionError
from services.rounds.tests.harness import World, placed, result_of, state_of


async def played(world: World, *amounts: int) -> int:
    """A round with one meme, whose votes are all held, tallied; its id."""
    meme = (await world.enter()).content_id
    votes = await placed(world, meme, amounts)
    await world.hold(*votes)
    await world.block()
    await world.look()
    return votes[0].round_id


async def test_nothing_pending_is_tallied_at_once(world: World) -> None:
    round_id = await played(world, 1000, 200)
    assert await state_of(world, round_id) is RoundState.CLOSED
    result = await result_of(world, round_id)
    (event,) = await world.events("round.closed")
    assert (result.pot, result.fee, result.counted_votes) == (1200, 24, 2)
    lines = [(line.amount, line.reason) for line in result.rewards]
    assert lines == [(600, "creator"), (69, "place:1"), (115, "backers:1-5"), (115, "backers:1-5")]
    assert result.carry_out == 1200 - 24 - 600 - 69 - 230
    assert [line["amount"] for line in event["rewards"]] == [line.amount for line in result.rewards]
    assert event["roots"] == {"votes": result.roots.votes, "rewards": result.roots.rewards}
    assert (event["void"], event["withdrawn"], event["stakes"]) == ([], [], 1200)
    assert event["policy"]["feeBp"] == 200
    assert event["closingBlockHash"] == world.source.best.hash


async def test_a_round_waits_for_its_stakes_and_counts_late_ones(world: World) -> None:
    meme = (await world.enter()).content_id
    votes = await placed(world, meme, [10, 20])
    await world.block()
    await world.look()
    assert await state_of(world, 100) is RoundState.CLOSING
    await world.hold(votes[0])
    world.clock.pass_s(1)
    await world.look()
    assert await state_of(world, 100) is RoundState.CLOSING
    await world.hold(votes[1])
    await world.look()
    assert (await result_of(world, 100)).stakes == 30


async def test_after_thirty_seconds_of_consuming_the_rest_is_void(world: World) -> None:
    meme = (await world.enter()).content_id
    held, late = await placed(world, meme, [10, 20])
    await world.hold(held)
    await world.block()
    for _ in range(29):
        world.clock.pass_s(1)
        await world.look()
    assert await state_of(world, 100) is RoundState.CLOSING
    world.clock.pass_s(1)
    await world.look()
    (event,) = await world.events("round.closed")
    assert (event["void"], event["countedVotes"], event["stakes"]) == ([str(late.id)], 1, 10)
    (rejected,) = await world.events("vote.rejected")
    assert rejected["voteId"] == [str(late.id)]
    assert (await world.vote(late)).reason == "not_held_in_time"
    await world.hold(late)  # payments was slower than its answer's deadline: nothing changes
    assert (await world.vote(late)).state == "rejected"
    assert (await result_of(world, 100)).stakes == 10
    assert len(await world.events("vote.counted")) == 1


async def test_downtime_does_not_count_and_a_restart_waits_anew(world: World) -> None:
    meme = (await world.enter()).content_id
    (vote,) = await placed(world, meme, [10])
    await world.block()
    for _ in range(20):
        world.clock.pass_s(1)
        await world.look()
    world.clock.pass_s(3600)  # the process was away
    await world.look()
    for _ in range(29):
        world.clock.pass_s(1)
        await world.look()
    for _ in range(60):  # the process runs, but its consumer does not get through
        world.clock.pass_s(1)
        await world.look(consuming=False)
    assert await state_of(world, 100) is RoundState.CLOSING
    await world.hold(vote)
    await world.look()
    assert (await result_of(world, 100)).counted_votes == 1


async def test_a_round_is_tallied_once_however_many_look(world: World) -> None:
    meme = (await world.enter()).content_id
    await world.hold(*await placed(world, meme, [10]))
    await world.block()
    await asyncio.gather(*(world.look() for _ in range(4)))
    assert len(await world.events("round.closed")) == 1


async def test_counting_and_the_deadline_race_without_losing_a_vote(world: World) -> None:
    meme = (await world.enter()).content_id
    votes = await placed(world, meme, [10] * 12)
    await world.block()
    for _ in range(29):
        world.clock.pass_s(1)
        await world.look()
    world.clock.pass_s(1)
    await asyncio.gather(*(world.hold(vote) for vote in votes), world.look())
    await world.look()
    (event,) = await world.events("round.closed")
    counted = {vote_id for each in await world.events("vote.counted") for vote_id in each["voteId"]}
    assert counted.isdisjoint(event["void"])
    assert counted | set(event["void"]) == {str(vote.id) for vote in votes}
    assert event["countedVotes"] == len(counted)


async def test_an_idle_round_takes_no_carry_and_pays_no_fee(world: World) -> None:
    round_id = await played(world, 1000)
    await world.distribute(round_id)
    await world.block()
    await world.look()
    (_, idle) = await world.events("round.closed")
    assert (idle["pot"], idle["fee"], idle["carrySources"], idle["rewards"]) == (0, 0, [], [])
    assert (await result_of(world, 101)).roots.votes == idle["roots"]["votes"]
    free = await world.rows("select round_id from carry where taken_by is null")
    assert [row.round_id for row in free] == [round_id]


async def test_carry_of_settled_rounds_is_taken_once(world: World) -> None:
    first = await played(world, 1000)
    second = await played(world, 500)
    await world.distribute(second)  # the first one hangs: later rounds do not wait for it
    third = await played(world, 100)
    carry = (await result_of(world, second)).carry_out
    assert (await result_of(world, third)).carry_sources == (CarryTaken(second, carry),)
    assert (await result_of(world, third)).pot == 100 + carry
    await world.distribute(first)
    await world.distribute(third)
    fourth = await played(world, 100)
    sources = (await result_of(world, fourth)).carry_sources
    assert [source.round_id for source in sources] == [first, third]
    event = (await world.events("round.closed"))[-1]
    assert event["carryIn"] == sum(source.amount for source in sources)


async def test_settlement_is_told_twice_and_out_of_order(world: World) -> None:
    round_id = await played(world, 1000)
    stopped = {"roundId": str(round_id), "reason": "mismatch", "stoppedAt": world.clock.now()}
    await world.tell("memepool.payments.distribution.stopped.v1", stopped)
    assert (await world.round(round_id)).stopped_reason == "mismatch"
    assert await state_of(world, round_id) is RoundState.CLOSED
    await world.distribute(round_id)
    await world.distribute(round_id)
    await world.tell("memepool.payments.distribution.stopped.v1", stopped)
    settled = await world.round(round_id)
    assert (settled.state, settled.stopped_reason) == (RoundState.SETTLED, None)
    (event,) = await world.events("round.settled")
    assert event["roundId"] == str(round_id)
    assert len(await world.rows("select from carry")) == 1


async def test_what_payments_says_must_be_what_was_closed(world: World) -> None:
    round_id = await played(world, 1000)
    with pytest.raises(ContradictionError):
        await world.distribute(round_id, pot=999)
    assert await state_of(world, round_id) is RoundState.CLOSED
    unknown = {"roundId": "7", "txid": "ab" * 32}
    with pytest.raises(ContradictionError):
        await world.tell("memepool.payments.settlement.updated.v1", unknown)


async def test_the_latest_settlement_transaction_stays(world: World) -> None:
    round_id = await played(world, 1000)
    early = world.clock.now()
    world.clock.pass_s(10)
    for txid in ("bb" * 32, "aa" * 32):
        await world.tell(
            "memepool.payments.settlement.updated.v1",
            {"roundId": str(round_id), "txid": txid, "state": "seen"},
        )
        world.clock.instant = early
    assert (await world.round(round_id)).settlement_txid == "bb" * 32


async def test_a_round_that_is_refunded_ends_and_frees_its_carry(world: World) -> None:
    first = await played(world, 1000)
    await world.distribute(first)
    left = (await result_of(world, first)).carry_out
    round_id = await played(world, 500)
    assert (await result_of(world, round_id)).carry_sources == (CarryTaken(first, left),)
    stopped = {"roundId": str(round_id), "reason": "sums differ"}
    await world.tell("memepool.payments.distribution.stopped.v1", stopped)
    one = {"roundId": str(round_id), "voteId": [], "reason": "vote_rejected"}
    await world.tell("memepool.payments.stake.refunded.v1", one)
    assert await state_of(world, round_id) is RoundState.CLOSED
    whole = one | {"reason": "round_refunded"}
    for _ in range(2):  # payments refunds in parts
        await world.tell("memepool.payments.stake.refunded.v1", whole, whole)
    assert await state_of(world, round_id) is RoundState.REFUNDED
    (said,) = [each for each in await world.events("round.settled") if each["refunded"]]
    assert (said["roundId"], said["fee"], said["carryOut"]) == (str(round_id), 0, 0)
    await world.tell("memepool.payments.distribution.stopped.v1", stopped)  # late
    with pytest.raises(IllegalTransition):
        await world.distribute(round_id)
    after = await played(world, 10)
    assert (await result_of(world, after)).carry_sources == (CarryTaken(first, left),)


async def test_a_round_that_cannot_be_tallied_holds_up_no_other(world: World) -> None:
    first = (await world.enter()).content_id
    await world.hold(*await placed(world, first, [10]))
    await world.block()
    second = (await world.enter()).content_id
    await world.hold(*await placed(world, second, [20]))
    await world.block()
    async with world.database.transaction() as session:
        await session.execute(text("update round set block_hash = 'lost' where id = 100"))
    with pytest.raises(ExceptionGroup):
        await world.look()
    assert await state_of(world, 100) is RoundState.CLOSING
    assert await state_of(world, 101) is RoundState.CLOSED


async def test_looking_at_a_round_that_is_not_closing_does_nothing(world: World) -> None:
    for round_id in (100, 5):
        async with world.database.transaction() as session:
            await look_at(
                session,
                round_id,
                "regtest",
                now=world.clock.now(),
                timeout_after=world.clock.now() - world.clock.now(),
                consuming=True,
            )
    assert await state_of(world, 100) is RoundState.OPEN
