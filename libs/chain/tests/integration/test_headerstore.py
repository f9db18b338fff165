"""The header store: which branch is the chain, after everything a source may send."""

import asyncio
import random
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from memepool_chain import headerstore, headertable
from memepool_chain.difficulty import RETARGET_ANCESTORS, required_bits
from memepool_chain.header import Header, HeaderError, work_of
from memepool_chain.headerstore import (
    Change,
    Checkpoint,
    NotInitializedError,
    Tip,
    TipMovedError,
    add_headers,
    initialize,
    missing_parents,
    tip,
)
from memepool_chain.network import MAIN, REGTEST, Network
from memepool_chain.testing import EASY_BITS, RETARGETING, genesis, grow, mine

NOW = datetime(2030, 1, 1, tzinfo=UTC)
GENESIS = genesis()


class Store:
    """The functions under test, each call in a transaction of its own."""

    def __init__(self, engine: AsyncEngine, network: Network = REGTEST) -> None:
        self.engine = engine
        self.network = network

    async def add(self, headers: Sequence[Header], *, now: datetime = NOW) -> Change:
        async with self.engine.begin() as session:
            raw = [each.serialize() for each in headers]
            return await add_headers(session, self.network, raw, now=now)

    async def tip(self) -> Tip:
        async with self.engine.begin() as session:
            return await tip(session)

    async def state(self, header: Header) -> str | None:
        async with self.engine.begin() as session:
            stored = await headerstore.header(session, header.hash)
            return stored.state if stored else None

    async def known(self, header: Header) -> bool:
        async with self.engine.begin() as session:
            return await headerstore.known(session, header.hash)

    async def active(self) -> list[str]:
        """The active branch's hashes by height, read one by one."""
        async with self.engine.begin() as session:
            height = (await tip(session)).height
            found = [await headerstore.header_at(session, h) for h in range(height + 2)]
            assert found.pop() is None
            return [each.hash if each else "gap" for each in found]

    async def missing(self) -> list[str]:
        async with self.engine.begin() as session:
            return await missing_parents(session)


def hashes(headers: Sequence[Header]) -> list[str]:
    return [each.hash for each in headers]


def connected(change: Change) -> list[str]:
    return [each.hash for each in change.connected]


def disconnected(change: Change) -> list[str]:
    return [each.hash for each in change.disconnected]


@pytest_asyncio.fixture
async def store(engine: AsyncEngine) -> Store:
    """A regtest store that holds the first block."""
    async with engine.begin() as session:
        await initialize(session, Checkpoint.genesis(REGTEST))
    return Store(engine)


async def refusal(act: Awaitable[object]) -> str:
    with pytest.raises(HeaderError) as caught:
        await act
    return caught.value.code


class TestInitialize:
    async def test_the_first_block_is_the_first_tip(self, store: Store) -> None:
        assert await store.tip() == Tip(GENESIS.hash, 0, 2, 1)
        assert await store.active() == [GENESIS.hash]

    async def test_a_second_time_changes_nothing(self, store: Store) -> None:
        change = await store.add(grow(GENESIS, 2))
        async with store.engine.begin() as session:
            assert await initialize(session, Checkpoint.genesis(REGTEST)) == change.tip

    async def test_two_starters_at_once(self, engine: AsyncEngine) -> None:
        async def start() -> Tip:
            async with engine.begin() as session:
                return await initialize(session, Checkpoint.genesis(REGTEST))

        assert len({await each for each in asyncio.as_completed([start(), start()])}) == 1

    async def test_a_database_of_another_chain_is_noticed(self, store: Store) -> None:
        other = mine(GENESIS, merkle_root="22" * 32)
        await store.add(grow(GENESIS, 1))
        async with store.engine.begin() as session:
            with pytest.raises(ValueError, match="another chain"):
                await initialize(session, Checkpoint(1, (GENESIS, other)))

    async def test_a_checkpoint_ahead_of_the_store_is_no_contradiction(self, store: Store) -> None:
        async with store.engine.begin() as session:
            known = await initialize(session, Checkpoint(500, (mine(GENESIS),)))
        assert known.height == 0

    async def test_without_a_checkpoint_nothing_works(self, engine: AsyncEngine) -> None:
        empty = Store(engine)
        with pytest.raises(NotInitializedError):
            await empty.tip()
        with pytest.raises(NotInitializedError):
            await empty.add(grow(GENESIS, 1))

    def test_checkpoints_that_cannot_be(self) -> None:
        a, b = grow(GENESIS, 2)
        with pytest.raises(ValueError, match="has a header"):
            Checkpoint(3, ())
        with pytest.raises(ValueError, match="below height 0"):
            Checkpoint(0, (a, b))
        with pytest.raises(ValueError, match="follow each other"):
            Checkpoint(2, (b, a))
        with pytest.raises(ValueError, match="147"):
            Checkpoint.genesis(MAIN)


class TestConnect:
    async def test_one_after_another(self, store: Store) -> None:
        branch = grow(GENESIS, 3)
        for height, header in enumerate(branch, start=1):
            change = await store.add([header])
            assert connected(change) == [header.hash]
            assert change.disconnected == ()
            assert change.connected[0].height == height
            assert change.connected[0].state == "active"
            assert change.connected[0].received_at == NOW
            assert change.tip == Tip(header.hash, height, 2 * (height + 1), height + 1)
        assert await store.active() == hashes([GENESIS, *branch])

    async def test_many_in_one_call_move_the_tip_once(self, store: Store) -> None:
        branch = grow(GENESIS, 40)
        change = await store.add(branch)
        assert connected(change) == hashes(branch)
        assert (change.tip.height, change.tip.version) == (40, 2)

    async def test_what_is_known_is_passed_over(self, store: Store) -> None:
        branch = grow(GENESIS, 3)
        first = await store.add(branch)
        again = await store.add([GENESIS, *branch, *branch])
        assert again == Change((), (), first.tip)
        assert (await store.add([])).tip == first.tip

    async def test_known_means_connected(self, store: Store) -> None:
        a, b = grow(GENESIS, 2)
        await store.add([b])
        assert [await store.known(each) for each in (GENESIS, a, b)] == [True, False, False]
        await store.add([a])
        assert [await store.known(each) for each in (a, b)] == [True, True]


class TestReorg:
    @pytest.mark.parametrize("depth", [1, 2, 3, 10])
    async def test_more_work_wins_at_any_depth(self, store: Store, depth: int) -> None:
        trunk = grow(GENESIS, 3)
        old = grow(trunk[-1], depth, name="aa")
        new = grow(trunk[-1], depth + 1, name="bb")
        await store.add(trunk + old)
        waiting = await store.add(new[:-1])  # as long as the old one: nothing moves
        assert (waiting.connected, waiting.disconnected) == ((), ())
        change = await store.add(new[-1:])
        assert connected(change) == hashes(new)
        assert disconnected(change) == hashes(old)[::-1]
        assert {each.state for each in change.disconnected} == {"stale"}
        assert await store.active() == hashes([GENESIS, *trunk, *new])
        assert {await store.state(each) for each in old} == {"stale"}

    async def test_a_tie_keeps_the_first_seen(self, store: Store) -> None:
        (first,), (second,) = grow(GENESIS, 1, name="aa"), grow(GENESIS, 1, name="bb")
        await store.add([second])
        await store.add([first])
        assert (await store.tip()).hash == second.hash
        assert await store.state(first) == "stale"
        change = await store.add(grow(first, 1))
        assert disconnected(change) == [second.hash]

    async def test_a_tie_within_one_call_keeps_the_first_in_it(self, store: Store) -> None:
        left, right = grow(GENESIS, 2, name="aa"), grow(GENESIS, 2, name="bb")
        change = await store.add([left[0], right[0], right[1], left[1]])
        assert connected(change) == hashes(right)

    async def test_there_and_back_again(self, store: Store) -> None:
        left, right = grow(GENESIS, 3, name="aa"), grow(GENESIS, 4, name="bb")
        versions = [(await store.add(left[:1])).tip.version]
        versions.append((await store.add(right[:2])).tip.version)
        change = await store.add(left[1:])
        assert connected(change) == hashes(left)
        assert disconnected(change) == hashes(right[:2])[::-1]
        versions.append(change.tip.version)
        assert versions == [2, 3, 4]

    async def test_only_the_fork_is_touched(self, store: Store) -> None:
        """A third branch that forks off the stale one changes nothing below its fork."""
        left, right = grow(GENESIS, 2, name="aa"), grow(GENESIS, 3, name="bb")
        await store.add(left + right)
        third = grow(left[0], 3, name="cc")
        change = await store.add(third)
        assert connected(change) == hashes([left[0], *third])
        assert await store.state(left[1]) == "stale"


class TestOrphans:
    async def test_they_wait_for_their_parent(self, store: Store) -> None:
        a, b, c = grow(GENESIS, 3)
        assert (await store.add([c])).connected == ()
        assert await store.state(c) == "orphan"
        assert await store.missing() == [b.hash]
        await store.add([b])
        assert await store.missing() == [a.hash]
        change = await store.add([a])
        assert connected(change) == hashes([a, b, c])
        assert await store.missing() == []

    async def test_newest_first_in_one_call(self, store: Store) -> None:
        branch = grow(GENESIS, 12)
        change = await store.add(branch[::-1])
        assert connected(change) == hashes(branch)
        assert change.tip.version == 2

    async def test_two_branches_of_orphans(self, store: Store) -> None:
        (root,) = grow(GENESIS, 1)
        left, right = grow(root, 2, name="aa"), grow(root, 3, name="bb")
        await store.add(left + right)
        change = await store.add([root])
        assert connected(change) == hashes([root, *right])
        assert {await store.state(each) for each in left} == {"stale"}

    async def test_the_arrival_of_the_orphan_is_kept(self, store: Store) -> None:
        a, b = grow(GENESIS, 2)
        await store.add([b], now=NOW)
        change = await store.add([a], now=NOW + timedelta(minutes=5))
        assert [each.received_at for each in change.connected] == [
            NOW + timedelta(minutes=5),
            NOW,
        ]

    async def test_one_that_proves_wrong_is_dropped_and_harms_nobody(self, store: Store) -> None:
        (parent,) = grow(GENESIS, 1)
        liar = mine(parent, bits=EASY_BITS)  # real work, but not the required bits
        child_of_liar = mine(liar)
        await store.add([liar, child_of_liar])
        change = await store.add([parent])
        assert connected(change) == [parent.hash]
        assert await store.state(liar) is None
        assert await store.state(child_of_liar) == "orphan"

    async def test_too_many_push_out_the_oldest(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(headerstore, "ORPHANS_MAX", 3)
        orphans = [grow(each, 1)[0] for each in grow(GENESIS, 5)]
        for minute, orphan in enumerate(orphans):
            await store.add([orphan], now=NOW + timedelta(minutes=minute))
        assert [await store.state(each) for each in orphans] == [None, None] + ["orphan"] * 3
        assert (await store.tip()).height == 0


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
