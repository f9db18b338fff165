"""The header store: which branch is the chain."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from memepool_chain import headerstore
from memepool_chain.headerstore import (
    Change,
    Checkpoint,
    NotInitializedError,
    Tip,
    initialize,
)
from memepool_chain.network import MAIN, REGTEST
from memepool_chain.testing import EASY_BITS, grow, mine
from memepool_chain.testing.headerstore import GENESIS, NOW, Store, connected, disconnected, hashes


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
