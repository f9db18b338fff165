"""The header store under lies, concurrency, and any order of arrival."""

import asyncio
import random
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from memepool_chain import headertable
from memepool_chain.difficulty import RETARGET_ANCESTORS, required_bits
from memepool_chain.header import Header, HeaderError, work_of
from memepool_chain.headerstore import (
    Checkpoint,
    TipMovedError,
    add_headers,
    initialize,
)
from memepool_chain.network import REGTEST
from memepool_chain.testing import EASY_BITS, RETARGETING, grow, mine
from memepool_chain.testing.headerstore import GENESIS, NOW, Store, connected, disconnected, hashes


async def refusal(act: Awaitable[object]) -> str:
    with pytest.raises(HeaderError) as caught:
        await act
    return caught.value.code


class TestRefusal:
    async def test_a_bad_header_takes_its_whole_call_with_it(self, store: Store) -> None:
        a, b = grow(GENESIS, 2)
        stale_time = mine(b, time_step_s=-100_000)
        assert await refusal(store.add([a, b, stale_time])) == "time_too_old"
        assert await store.state(a) is None
        assert (await store.tip()).version == 1

    async def test_even_if_the_callers_transaction_goes_on(self, store: Store) -> None:
        a, b = grow(GENESIS, 2)
        bad = mine(b, bits=EASY_BITS)
        async with store.engine.begin() as session:
            raw = [each.serialize() for each in (a, b, bad)]
            with pytest.raises(HeaderError):
                await add_headers(session, REGTEST, raw, now=NOW)
        assert await store.state(a) is None

    async def test_no_proof_of_work(self, store: Store) -> None:
        assert await refusal(store.add([mine(GENESIS, proven=False)])) == "no_proof_of_work"

    async def test_an_orphan_proves_its_work_too(self, store: Store) -> None:
        (parent,) = grow(GENESIS, 1)
        assert await refusal(store.add([mine(parent, proven=False)])) == "no_proof_of_work"
        assert await store.missing() == []

    async def test_two_hours_ahead_is_too_far(self, store: Store) -> None:
        now = datetime.fromtimestamp(GENESIS.time, UTC)
        late = mine(GENESIS, time_step_s=7_201)
        assert await refusal(store.add([late], now=now)) == "time_too_new"
        assert connected(await store.add([late], now=now + timedelta(seconds=1))) == [late.hash]

    @pytest.mark.parametrize("raw", [b"", bytes(79), bytes(81)])
    async def test_bytes_that_are_no_header(self, store: Store, raw: bytes) -> None:
        async with store.engine.begin() as session:
            code = await refusal(add_headers(session, REGTEST, [raw], now=NOW))
        assert code == "malformed_header"

    async def test_too_many_at_once(self, store: Store) -> None:
        async with store.engine.begin() as session:
            raw = [GENESIS.serialize()] * 2_001
            assert await refusal(add_headers(session, REGTEST, raw, now=NOW)) == "too_many_headers"


class TestLyingSource:
    """On a network that retargets, as main does, with blocks that a test can mine."""

    @pytest_asyncio.fixture
    async def retargeting(self, engine: AsyncEngine) -> tuple[Store, list[Header]]:
        window = grow(GENESIS, RETARGET_ANCESTORS, bits=EASY_BITS)
        async with engine.begin() as session:
            await initialize(session, Checkpoint(RETARGET_ANCESTORS, tuple(window)))
        return Store(engine, RETARGETING), window

    async def test_honest_blocks_connect(self, retargeting: tuple[Store, list[Header]]) -> None:
        store, line = retargeting
        for _ in range(3):
            bits = required_bits(RETARGETING, line[-RETARGET_ANCESTORS:])
            line.append(mine(line[-1], bits=bits))
        change = await store.add(line[-3:])
        assert connected(change) == hashes(line[-3:])
        assert change.tip.chainwork == sum(work_of(each.bits) for each in line)

    async def test_minimum_difficulty_on_top_of_the_tip_is_refused(
        self, retargeting: tuple[Store, list[Header]]
    ) -> None:
        store, window = retargeting
        assert await refusal(store.add(grow(window[-1], 5))) == "wrong_bits"
        assert (await store.tip()).hash == window[-1].hash

    async def test_a_branch_from_below_the_checkpoint_cannot_be_judged(
        self, retargeting: tuple[Store, list[Header]]
    ) -> None:
        store, window = retargeting
        fork = mine(window[50], bits=EASY_BITS, merkle_root="bb" * 32)
        assert await refusal(store.add([fork])) == "missing_ancestors"


class TestConcurrentWriters:
    async def test_two_branches_at_once_end_on_the_heavier(self, store: Store) -> None:
        left, right = grow(GENESIS, 2, name="aa"), grow(GENESIS, 3, name="bb")
        changes = await asyncio.gather(store.add(left), store.add(right))
        final = await store.tip()
        assert final.hash == right[-1].hash
        moved = [change for change in changes if change.connected]
        assert sorted(change.tip.version for change in moved) == list(range(2, 2 + len(moved)))
        assert await store.active() == hashes([GENESIS, *right])

    async def test_the_same_headers_at_once_connect_once(self, store: Store) -> None:
        branch = grow(GENESIS, 3)
        changes = await asyncio.gather(*(store.add(branch) for _ in range(4)))
        assert [len(change.connected) for change in changes if change.connected] == [3]
        assert {change.tip for change in changes} == {await store.tip()}

    async def test_parent_and_child_at_once_never_leave_an_orphan(self, store: Store) -> None:
        parent = GENESIS
        for _ in range(10):
            a, b = grow(parent, 2)
            await asyncio.gather(store.add([b]), store.add([a]))
            assert (await store.tip()).hash == b.hash
            parent = b

    async def test_a_writer_waits_for_the_one_before(self, store: Store) -> None:
        left, right = grow(GENESIS, 1, name="aa"), grow(GENESIS, 2, name="bb")
        async with store.engine.begin() as session:
            await add_headers(session, REGTEST, [left[0].serialize()], now=NOW)
            second = asyncio.create_task(store.add(right))
            await wait_until_blocked(store.engine)
        change = await second
        assert disconnected(change) == [left[0].hash]
        assert change.tip.version == 3

    async def test_a_tip_that_has_moved_is_not_overwritten(self, store: Store) -> None:
        old = await store.tip()
        change = await store.add(grow(GENESIS, 1))
        async with store.engine.begin() as session:
            with pytest.raises(TipMovedError):
                await headertable.move_tip(session, old, change.connected[0])
        assert await store.tip() == change.tip


async def wait_until_blocked(engine: AsyncEngine) -> None:
    """Return once some backend of this database waits for a lock."""
    async with asyncio.timeout(10), engine.connect() as connection:
        while True:
            result = await connection.exec_driver_sql(
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
                " and datname = current_database()"
            )
            if result.scalar_one():
                return
            await connection.rollback()  # or the statistics stay those of the first look


@pytest.mark.parametrize("seed", range(12))
async def test_any_tree_in_any_order(store: Store, seed: int) -> None:
    """Whatever arrives in whatever order: most work wins, and the changes tell the whole story."""
    rng = random.Random(seed)
    tree = [GENESIS]
    heights = {GENESIS.hash: 0}
    for number in range(14):
        parent = rng.choice(tree[-4:])
        tree.append(mine(parent, merkle_root=f"{number + 1:02x}" * 32))
        heights[tree[-1].hash] = heights[parent.hash] + 1
    arrivals = tree[1:] + rng.choices(tree, k=5)
    rng.shuffle(arrivals)
    told = [GENESIS.hash]
    while arrivals:
        count = rng.randint(1, 4)
        change = await store.add(arrivals[:count])
        del arrivals[:count]
        for each in change.disconnected:
            assert told.pop() == each.hash
        for each in change.connected:
            assert each.header.prev_hash == told[-1]
            told.append(each.hash)
        assert told[-1] == change.tip.hash
        assert len(told) == change.tip.height + 1
    assert await store.active() == told
    assert (await store.tip()).height == max(heights.values())
    states = [await store.state(each) for each in tree]
    assert states.count("active") == len(told)
    assert "orphan" not in states
