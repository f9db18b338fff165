"""Blocks come seconds apart, several at once, from another branch, late, and from liars."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import REGISTRY

from memepool_chain import headerstore
from memepool_chain.header import Header, parse_header
from memepool_chain.network import REGTEST
from memepool_chain.testing import mine
from memepool_chain.whatsonchain import ChainInfo
from memepool_rounds.store import chain_view, rounds
from memepool_rounds.use_cases import following
from services.rounds.tests.harness import World


async def open_id(world: World) -> int:
    async with world.database.read() as session:
        found = await rounds.open_one(session)
    assert found is not None
    return found.id


async def states(world: World) -> dict[int, str]:
    return {
        row.id: row.state for row in await world.rows("select id, state from round order by id")
    }


async def test_catching_up_opens_one_round_at_the_tip(world: World) -> None:
    assert await states(world) == {100: "open"}
    connected = await world.events("block.connected")
    assert [block["height"] for block in connected] == list(range(91, 101))
    for block in connected:
        header = parse_header(bytes.fromhex(block["header"]))
        assert header.hash == block["hash"] == world.source.at(block["height"]).hash
    (opened,) = await world.events("round.opened")
    assert (opened["roundId"], opened["policyId"], opened["minStake"]) == ("100", "standard-1", 1)
    assert opened["blockHash"] == world.source.best.hash


async def test_a_run_of_headers_is_fetched_in_few_calls(world: World) -> None:
    before = world.source.asked
    world.source.mine(1)
    await world.follower.poll()
    assert world.source.asked - before == 2  # chain info and one header


async def test_polling_again_changes_nothing(world: World) -> None:
    await world.follower.poll()
    await world.new_follower().poll()
    assert await states(world) == {100: "open"}
    assert len(await world.events("block.connected")) == 10


async def test_a_block_closes_the_round_and_opens_the_next(world: World) -> None:
    await world.block()
    assert await states(world) == {100: "closing", 101: "open"}
    closing = await world.round(100)
    assert closing.closing_hash == world.source.best.hash
    assert closing.finality == "seen"
    assert (await world.round(101)).block_hash == closing.closing_hash


async def test_several_blocks_in_one_poll_are_one_boundary(world: World) -> None:
    await world.block(4)
    assert await states(world) == {100: "closing", 104: "open"}


async def test_blocks_seconds_apart_pass_by_a_round_that_nobody_has_voted_in(world: World) -> None:
    await world.block()
    await world.enter()
    world.clock.pass_s(3)
    world.source.mine()
    await world.follower.poll()
    assert await open_id(world) == 101
    world.clock.pass_s(3600)  # the block that was passed by does not come back
    await world.follower.poll()
    assert await open_id(world) == 101
    world.source.mine()
    await world.follower.poll()
    assert await open_id(world) == 103


async def test_a_vote_makes_even_a_young_round_end(world: World) -> None:
    await world.block()
    entry = await world.enter()
    await world.place(entry.content_id)
    world.clock.pass_s(1)
    world.source.mine()
    await world.follower.poll()
    assert await states(world) == {100: "closing", 101: "closing", 102: "open"}


async def test_a_reorg_across_the_closing_block_moves_no_round(world: World) -> None:
    await world.block()
    closing_hash = world.source.best.hash
    world.source.mine(1, on=world.source.at(100), name="22")
    world.clock.pass_s(61)
    await world.follower.poll()  # equal work: the first seen stays
    assert (await world.round(100)).finality == "seen"
    world.source.mine(1, name="22")
    await world.follower.poll()
    assert await states(world) == {100: "closing", 101: "closing", 102: "open"}
    reorged = await world.round(100)
    assert (reorged.closing_hash, reorged.finality) == (closing_hash, "reorged")
    (left,) = await world.events("block.disconnected")
    assert left["hash"] == closing_hash
    last = (await world.events("block.connected"))[-1]
    assert last["tipVersion"] == left["tipVersion"]
    said = [each for each in await world.events("round.finality") if each["roundId"] == "100"]
    assert [each["finality"] for each in said] == ["seen", "reorged"]
    async with world.database.read() as session:
        (seen,) = await chain_view.recent_reorganisations(session, 5)
    assert (seen.fork_height, seen.depth, seen.old_tip) == (100, 1, closing_hash)


async def test_a_branch_that_comes_back_is_sure_again(world: World) -> None:
    await world.block()
    first = world.source.best
    world.source.mine(2, on=world.source.at(100), name="22")
    await world.follower.poll()
    assert (await world.round(100)).finality == "reorged"
    world.source.mine(3, on=first, name="33")
    await world.follower.poll()
    assert (await world.round(100)).finality == "confirmed(4)"


async def test_the_common_ancestor_is_found_however_far_back_it_lies(world: World) -> None:
    await world.block(300)
    world.source.mine(306, on=world.source.at(95), name="22")
    await world.follower.poll()
    async with world.database.read() as session:
        tip = await headerstore.tip(session)
        (seen,) = await chain_view.recent_reorganisations(session, 5)
    assert (tip.hash, tip.height) == (world.source.best.hash, 401)
    assert (seen.fork_height, seen.depth) == (95, 305)
    assert len(await world.events("block.disconnected")) == 305


async def test_a_fork_of_any_depth_is_fetched_in_parts_that_fit_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "WALK_MAX", 40)
    monkeypatch.setattr(following, "FORK_DEPTH_MAX", 10)
    batches: list[int] = []
    store = world.follower._store

    async def store_and_note(headers: Sequence[Header], info: ChainInfo) -> None:
        batches.append(len(headers))
        await store(headers, info)

    monkeypatch.setattr(world.follower, "_store", store_and_note)
    for _ in range(3):
        await world.block(40)
    world.clock.pass_s(61)
    world.source.mine(127, on=world.source.at(95), name="22")
    for _ in range(3):
        await world.follower.poll()
        assert await states(world) == {100: "closing", 140: "closing", 180: "closing", 220: "open"}
    await world.follower.poll()
    assert batches == [40, 40, 40, 40, 40, 40, 7]
    async with world.database.read() as session:
        tip = await headerstore.tip(session)
        (seen,) = await chain_view.recent_reorganisations(session, 5)
    assert (tip.hash, tip.height) == (world.source.best.hash, 222)
    assert (seen.fork_height, seen.depth) == (95, 125)
    assert await open_id(world) == 222


async def test_a_heavier_branch_of_lower_height_reopens_nothing(world: World) -> None:
    """More work in fewer blocks cannot be mined on regtest: the store is told that it is so."""
    await world.block(3)
    assert await open_id(world) == 103
    async with world.database.transaction() as session:
        await session.exec_driver_sql(
            "update chain_header set chainwork = 1 where height > 100 and state = 'active'"
        )
        await session.exec_driver_sql("update chain_tip set chainwork = 1")
    world.clock.pass_s(3600)
    world.source.mine(1, on=world.source.at(100), name="22")
    await world.follower.poll()
    async with world.database.read() as session:
        tips = await session.exec_driver_sql("select height from chain_tip")
        assert tips.scalar_one() == 101
    assert await states(world) == {100: "closing", 103: "open"}
    assert (await world.round(100)).finality == "reorged"
    world.source.mine(2, name="22")
    await world.follower.poll()
    assert await open_id(world) == 103  # the same height again
    world.source.mine(1, name="22")
    await world.follower.poll()
    assert await open_id(world) == 104


async def test_finality_grows_with_every_block(world: World) -> None:
    for _ in range(7):
        await world.block()
    said = [each for each in await world.events("round.finality") if each["roundId"] == "100"]
    assert [each["finality"] for each in said] == [
        *("seen", "confirmed(2)", "confirmed(3)", "confirmed(4)", "confirmed(5)", "final")
    ]


async def test_even_a_final_closing_block_is_said_to_be_gone_however_deep_it_lies(
    world: World,
) -> None:
    await world.block()
    await world.block(200)
    assert (await world.round(100)).finality == "final"
    first = world.source.best
    world.source.mine(250, on=world.source.at(100), name="22")
    await world.follower.poll()
    assert (await world.round(100)).finality == "reorged"
    world.source.mine(100, on=first, name="33")
    await world.follower.poll()
    said = [each for each in await world.events("round.finality") if each["roundId"] == "100"]
    assert [each["finality"] for each in said] == ["seen", "final", "reorged", "final"]


async def test_a_source_that_is_down_for_hours_is_noted_and_asked_again(world: World) -> None:
    world.source.down = True
    await world.follower.poll()
    since = world.clock.now()
    world.clock.pass_s(7200)
    await world.follower.poll()
    async with world.database.read() as session:
        view = await chain_view.view(session)
    assert view is not None
    assert (view.failing_since, view.polled_at) == (since, world.clock.now())
    assert "down" in (view.last_error or "")
    world.source.down = False
    world.source.mine(12)
    await world.follower.poll()
    assert await states(world) == {100: "closing", 112: "open"}


async def test_a_source_that_lies_changes_nothing(world: World) -> None:
    world.clock.pass_s(3600)
    lie = mine(world.source.best, proven=False)
    easy = mine(world.source.best, bits=REGTEST.pow_limit_bits - 1)
    for forged in (lie, easy):
        world.source.headers[forged.hash] = forged
        world.source.heights[forged.hash] = 101
        honest, world.source.best = world.source.best, forged
        await world.follower.poll()
        assert await states(world) == {100: "open"}
        world.source.best = honest
    assert len(await world.events("block.connected")) == 10


async def test_another_chain_altogether_is_refused(world: World) -> None:
    stranger = mine(world.source.at(0), merkle_root="99" * 32)
    orphan = mine(mine(stranger, merkle_root="98" * 32), merkle_root="97" * 32)
    world.source.headers[orphan.hash] = orphan
    world.source.heights[orphan.hash] = 500
    world.source.best = orphan
    await world.follower.poll()
    assert await states(world) == {100: "open"}
    async with world.database.read() as session:
        view = await chain_view.view(session)
    assert view is not None
    assert view.failing_since == world.clock.now()


async def test_two_followers_that_both_believe_to_be_alone_do_no_harm(world: World) -> None:
    world.clock.pass_s(61)
    world.source.mine(3)
    await asyncio.gather(world.follower.poll(), world.new_follower().poll())
    assert await states(world) == {100: "closing", 103: "open"}
    assert len(await world.events("block.connected")) == 13
    assert len(await world.events("round.opened")) == 2


async def test_what_an_operator_is_alarmed_by(world: World) -> None:
    def metric(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(f"memepool_chain_{name}", labels) or 0

    deep, shallow = metric("reorgs_total", deep="yes"), metric("reorgs_total", deep="no")
    await world.block(6)
    world.source.mine(7, on=world.source.at(100), name="22")
    await world.follower.poll()
    assert metric("reorgs_total", deep="yes") == deep + 1
    world.source.mine(2, on=world.source.at(106), name="33")
    await world.follower.poll()
    assert metric("reorgs_total", deep="no") == shallow + 1
    world.clock.pass_s(7200)
    await world.follower.poll()
    assert metric("tip_age_seconds") == 7200
    world.source.down = True
    for _ in range(2):
        await world.follower.poll()
        world.clock.pass_s(600)
    assert metric("source_failing_seconds") == 600
    world.source.down = False
    await world.follower.poll()
    assert (metric("source_failing_seconds"), metric("lag_blocks")) == (0, 0)
    refused = metric("refused_total")
    lie = mine(world.source.best, proven=False)
    world.source.headers[lie.hash], world.source.heights[lie.hash] = lie, world.source.height + 1
    world.source.best = lie
    await world.follower.poll()
    assert metric("refused_total") == refused + 1


async def test_catching_up_shows_its_progress(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks after each batch sees the tip come closer to the source's height."""
    monkeypatch.setattr(following, "BATCH_MAX", 40)
    seen: list[tuple[int, int | None]] = []
    world.source.mine(130)
    store = world.follower._store

    async def store_and_look(*batch: Any) -> None:
        await store(*batch)
        async with world.database.read() as session:
            view = await chain_view.view(session)
            tip = await headerstore.tip(session)
        seen.append((tip.height, view.source_height if view else None))

    monkeypatch.setattr(world.follower, "_store", store_and_look)
    await world.follower.poll()
    assert seen == [(140, 230), (180, 230), (220, 230), (230, 230)]
