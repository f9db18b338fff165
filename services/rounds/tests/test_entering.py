"""Memes enter rounds, wait for the next one, leave, and are removed."""

import asyncio
from uuid import UUID

import pytest

from memepool_common.ids import uuid7
from memepool_rounds.domain.errors import (
    AlreadyEntered,
    AlreadyQueued,
    MemeNotInRound,
    MemeRemoved,
    NotKnownYet,
    NotYours,
    QueueFull,
    SubmissionNotFound,
    SubmissionWithdrawn,
    Suspended,
)
from memepool_rounds.store import rounds, submissions
from memepool_rounds.use_cases.entering import Limits, withdraw_meme
from services.rounds.tests.harness import World, blocked, placed, result_of


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
                await world.submit(session, content_id, caller)


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


async def test_who_leaves_the_queue_while_a_block_waits_does_not_enter(world: World) -> None:
    """The follower has read the queue, and waits for the round's row while a meme leaves."""
    world.limits = Limits(submissions_max=2, queue_max=4)
    world.follower = world.new_follower()
    for _ in range(2):
        await world.enter()
    leaves, stays = await world.enter(), await world.enter()
    world.clock.pass_s(61)
    world.source.mine()
    async with world.database.transaction() as session:
        await rounds.open_one(session, " for update")
        turn = asyncio.create_task(world.follower.poll())
        await blocked(world)
        await submissions.take_from_queue(session, [leaves.content_id])
    await turn
    entered = await world.rows("select content_id from submission where round_id = 101")
    assert [row.content_id for row in entered] == [stays.content_id]
    again = await world.enter(uuid7(), leaves.creator_id)
    assert again.round_id == 101


async def test_who_joins_the_queue_while_a_block_waits_enters_the_next_round(world: World) -> None:
    """The follower has read the queue, and waits for the round's row while a meme finds it full."""
    world.limits = Limits(submissions_max=2, queue_max=4)
    world.follower = world.new_follower()
    for _ in range(2):
        await world.enter()
    content_id, creator_id = uuid7(), uuid7()
    await world.publish(content_id, creator_id)
    world.clock.pass_s(61)
    world.source.mine()
    async with world.database.transaction() as session:
        await rounds.open_one(session, " for update")
        turn = asyncio.create_task(world.follower.poll())
        await blocked(world)
        joined = await world.submit(session, content_id, creator_id)
        assert joined.round_id is None
    await turn
    entered = await world.rows("select content_id from submission where round_id = 101")
    assert [row.content_id for row in entered] == [content_id]
    assert await world.rows("select from queued_submission") == []
