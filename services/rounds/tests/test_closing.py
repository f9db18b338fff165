"""From the last vote to the settled round: bounded waits, one tally, carry, removals."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest

from memepool_common.ids import uuid7
from memepool_rounds.domain.errors import (
    AlreadyEntered,
    AlreadyQueued,
    IllegalTransition,
    MemeNotInRound,
    MemeRemoved,
    NotKnownYet,
    NotYours,
    QueueFull,
    SubmissionNotFound,
    SubmissionWithdrawn,
    Suspended,
)
from memepool_rounds.domain.rounds import RoundState
from memepool_rounds.store import results
from memepool_rounds.store.results import CarryTaken, StoredResult
from memepool_rounds.store.votes import StoredVote
from memepool_rounds.use_cases.closing import look_at
from memepool_rounds.use_cases.entering import Limits, enter_meme, withdraw_meme
from memepool_rounds.use_cases.settling import ContradictionError
from services.rounds.tests.harness import World, wish


async def result_of(world: World, round_id: int) -> StoredResult:
    async with world.database.read() as session:
        found = await results.of_round(session, round_id)
    assert found is not None
    return found


async def state_of(world: World, round_id: int) -> RoundState:
    return (await world.round(round_id)).state


async def placed(world: World, meme: UUID, amounts: Sequence[int]) -> list[StoredVote]:
    outcomes = await world.place_all([wish(meme, amount) for amount in amounts])
    return [each for each in outcomes if isinstance(each, StoredVote)]


async def played(world: World, *amounts: int) -> int:
    """A round with one meme, whose votes are all held, tallied; its id."""
    meme = (await world.enter()).content_id
    votes = await placed(world, meme, amounts)
    await world.hold(*votes)
    await world.block()
    await world.look()
    return votes[0].round_id


async def withdraw(world: World, content_id: UUID, caller_id: UUID, round_id: int | None) -> None:
    async with world.database.transaction() as session:
        await withdraw_meme(
            session,
            round_id=round_id,
            content_id=content_id,
            caller_id=caller_id,
            is_admin=False,
            now=world.clock.now(),
        )


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


async def test_a_meme_removed_in_mid_round_leaves_with_its_stakes(world: World) -> None:
    gone, stays = await world.enter(), await world.enter()
    lost = await placed(world, gone.content_id, [500, 500])
    kept = await placed(world, stays.content_id, [10])
    await world.hold(lost[0], *kept)
    for _ in range(2):
        await world.remove(gone.content_id, gone.creator_id)
    await world.hold(lost[1])
    (event,) = await world.events("meme.withdrawn")
    assert (event["contentId"], event["reason"]) == (str(gone.content_id), "removed")
    assert {(await world.vote(vote)).reason for vote in lost} == {"meme_removed"}
    with pytest.raises(MemeNotInRound):
        await world.place(gone.content_id)
    await world.block()
    await world.look()
    (closed,) = await world.events("round.closed")
    assert (closed["withdrawn"], closed["void"]) == ([str(gone.content_id)], [])
    assert (closed["stakes"], len(closed["ranking"])) == (10, 1)


async def test_after_the_tally_results_stand(world: World) -> None:
    entry = await world.enter()
    await world.hold(*await placed(world, entry.content_id, [10]))
    await world.block()
    await world.look()
    await world.remove(entry.content_id, entry.creator_id)
    assert await world.events("meme.withdrawn") == []
    assert len((await result_of(world, 100)).ranking) == 1


async def test_a_removal_heard_before_the_publication_is_final(world: World) -> None:
    meme, creator = uuid7(), uuid7()
    await world.remove(meme, creator, revision=2)
    await world.publish(meme, creator, revision=1)
    await world.publish(meme, creator, revision=3)
    with pytest.raises(MemeRemoved):
        await world.enter(meme, creator)


async def test_a_withdrawn_entry_is_used_up(world: World) -> None:
    entry = await world.enter()
    with pytest.raises(NotYours):
        await withdraw(world, entry.content_id, uuid7(), 100)
    await withdraw(world, entry.content_id, entry.creator_id, None)
    with pytest.raises(SubmissionWithdrawn):
        await withdraw(world, entry.content_id, entry.creator_id, 100)
    with pytest.raises(AlreadyEntered):
        await world.enter(entry.content_id, entry.creator_id)
    with pytest.raises(AlreadyEntered):
        await world.enter(uuid7(), entry.creator_id)
    with pytest.raises(SubmissionNotFound):
        await withdraw(world, uuid7(), entry.creator_id, 100)
    await world.block()
    again = await world.enter(entry.content_id, entry.creator_id)
    assert again.round_id == 101


async def test_a_submission_pins_the_image_that_it_came_with(world: World) -> None:
    entry = await world.enter()
    await world.publish(entry.content_id, entry.creator_id, version=2, revision=2)
    await world.publish(entry.content_id, entry.creator_id, version=1, revision=1)  # late
    rows = await world.rows("select version, sha256 from submission")
    assert [(row.version, row.sha256) for row in rows] == [(1, entry.sha256)]
    await world.block()
    async with world.database.read() as session:
        version = await session.exec_driver_sql("select version from meme")
        assert version.scalar_one() == 2


async def test_only_the_creator_of_a_known_meme_enters_it(world: World) -> None:
    meme, creator = uuid7(), uuid7()
    await world.suspend(creator)
    with pytest.raises(Suspended):
        await world.enter(meme, creator)
    await world.suspend(creator, suspended=False, version=3)
    await world.suspend(creator, suspended=True, version=2)  # late
    assert (await world.enter(meme, creator)).round_id == 100
    for content_id, caller, refusal in ((meme, uuid7(), NotYours), (uuid7(), creator, NotKnownYet)):
        async with world.database.transaction() as session:
            with pytest.raises(refusal):
                await enter_meme(
                    session,
                    round_id=None,
                    content_id=content_id,
                    creator_id=caller,
                    limits=world.limits,
                    now=world.clock.now(),
                )


async def test_a_full_round_queues_for_the_next_which_asks_again(world: World) -> None:
    world.limits = Limits(submissions_max=2, queue_max=4)
    world.follower = world.new_follower()
    for _ in range(2):
        assert (await world.enter()).round_id == 100
    gone, barred, third, fourth = [await world.enter() for _ in range(4)]
    assert gone.round_id is None
    with pytest.raises(AlreadyQueued):
        await world.enter(uuid7(), third.creator_id)
    with pytest.raises(QueueFull):
        await world.enter()
    await world.remove(gone.content_id, gone.creator_id)
    await world.suspend(barred.creator_id)
    await world.publish(third.content_id, third.creator_id, version=5, revision=5)
    await world.block()
    entered = await world.rows(
        "select content_id, version from submission where round_id = 101 order by version desc"
    )
    assert [(row.content_id, row.version) for row in entered] == [
        (third.content_id, 5),
        (fourth.content_id, 1),
    ]
    assert await world.rows("select from queued_submission") == []
    said = [each for each in await world.events("meme.submitted") if each["roundId"] == "101"]
    assert [each["contentId"] for each in said] == [str(third.content_id), str(fourth.content_id)]


async def test_who_waits_may_leave_the_queue(world: World) -> None:
    world.limits = Limits(submissions_max=1, queue_max=4)
    await world.enter()
    waiting = await world.enter()
    with pytest.raises(SubmissionNotFound):
        await withdraw(world, waiting.content_id, uuid7(), None)
    await withdraw(world, waiting.content_id, waiting.creator_id, None)
    assert await world.rows("select from queued_submission") == []


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
