"""Both roots, against the definition written down a second time, recursively."""

import hashlib
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memepool_rounds.domain.rewards import Distribution, Reward
from memepool_rounds.domain.roots import (
    CHUNK_VOTES,
    VoteTree,
    rewards_root,
    vote_leaves,
    votes_root,
)
from memepool_rounds.domain.tally import CountedVote


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def text(value: str) -> bytes:
    return number(len(value.encode())) + value.encode()


def an_id(n: int) -> str:
    return str(UUID(int=n))


def split_at(size: int) -> int:
    """Promoting the odd node at each level leaves a perfect left subtree."""
    power = 1
    while power * 2 < size:
        power *= 2
    return power


def top_of(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    middle = split_at(len(leaves))
    return sha(b"\x01" + top_of(leaves[:middle]) + top_of(leaves[middle:]))


def sum_top_of(leaves: list[tuple[int, bytes]]) -> tuple[int, bytes]:
    if len(leaves) == 1:
        return leaves[0]
    middle = split_at(len(leaves))
    left, right = sum_top_of(leaves[:middle]), sum_top_of(leaves[middle:])
    node = b"\x01" + number(left[0]) + left[1] + number(right[0]) + right[1]
    return left[0] + right[0], sha(node)


@given(st.lists(st.integers(1, 10**15), max_size=70))
def test_votes_root_is_as_published(amounts: list[int]) -> None:
    votes = [
        CountedVote(an_id(i), an_id(i + 1), an_id(i + 2), amount, 10 + 3 * i)
        for i, amount in enumerate(amounts)
    ]
    leaves = [
        sha(
            b"\x00"
            + text("840000")
            + text(vote.id)
            + text(vote.content_id)
            + text(vote.voter_id)
            + number(vote.amount)
            + number(vote.sequence)
        )
        for vote in votes
    ]
    top = top_of(leaves) if leaves else bytes(32)
    expected = sha(b"\x02" + number(len(votes)) + number(sum(amounts)) + top)
    assert votes_root("840000", reversed(votes)) == expected.hex()


@given(st.lists(st.integers(1, 10**15), max_size=70), st.integers(0, 99), st.integers(0, 99))
def test_rewards_root_is_as_published_and_binds_the_pot(
    amounts: list[int], fee: int, carry_out: int
) -> None:
    rewards = tuple(
        Reward(UUID(int=i), amount, "creator") for i, amount in enumerate(amounts, start=1)
    )
    pot = fee + carry_out + sum(amounts)
    lines = [("", "fee", fee), ("", "carryOut", carry_out)]
    lines += [(str(each.recipient), each.reason, each.amount) for each in rewards]
    leaves = [
        (
            amount,
            sha(b"\x00" + text("7") + number(i) + text(who) + text(why) + number(amount)),
        )
        for i, (who, why, amount) in enumerate(lines)
    ]
    total, top = sum_top_of(leaves)
    assert total == pot
    expected = sha(b"\x02" + number(len(lines)) + number(pot) + top)
    assert rewards_root("7", Distribution(pot, fee, carry_out, rewards)) == expected.hex()


def test_a_known_root() -> None:
    """Frozen: who verifies rounds with code of their own compares with this."""
    vote = CountedVote(an_id(1), an_id(2), an_id(3), 1000, 1)
    assert votes_root("100", []) == hashlib.sha256(b"\x02" + bytes(48)).hexdigest()
    leaf_text = b"".join(text(t) for t in ("100", vote.id, an_id(3), an_id(2)))
    leaf = sha(b"\x00" + leaf_text + number(1000) + number(1))
    assert votes_root("100", [vote]) == sha(b"\x02" + number(1) + number(1000) + leaf).hex()


@pytest.mark.parametrize("count", [1, 2, 1023, 1024, 1025, 2048, 3000, 5 * 1024 + 1])
def test_chunks_are_inner_nodes_of_the_one_tree(count: int) -> None:
    votes = [CountedVote(an_id(i), an_id(1), an_id(2), 5, 3 * i) for i in range(1, count + 1)]
    tree = VoteTree("7")
    for start in range(0, count, 700):  # pages are not chunks
        tree.add(votes[start : start + 700])
    chunks = tree.chunks()
    assert [each.first_sequence for each in chunks] == [
        vote.sequence for vote in votes[::CHUNK_VOTES]
    ]
    top = top_of(vote_leaves("7", votes))
    assert tree.root() == sha(b"\x02" + number(count) + number(5 * count) + top).hex()
    assert top_of([each.digest for each in chunks]) == top
