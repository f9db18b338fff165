"""The reward rule: exact sums, no favour to the order of votes, no harm from more stakes."""

from collections import Counter
from dataclasses import replace
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memepool_rounds.domain.policy import (
    BASIS_POINTS,
    CREATORS_BP_MIN,
    STANDARD_1,
    Curve,
    Policy,
    Tier,
    policy_of,
)
from memepool_rounds.domain.rewards import Distribution, distribute
from memepool_rounds.domain.roots import rewards_root, votes_root
from memepool_rounds.domain.tally import CountedVote, Counting, Tally

BLOCK = "00" * 31 + "07"


def meme(n: int) -> UUID:
    return UUID(int=1_000 + n)


def creator(n: int) -> UUID:
    return UUID(int=2_000 + n)


def voter(n: int) -> UUID:
    return UUID(int=3_000 + n)


CREATORS = {meme(n): creator(n) for n in range(12)}


def votes_of(*placed: tuple[int, int, int]) -> list[CountedVote]:
    """Votes as (meme, voter, amount), in the order of their placement."""
    return [
        CountedVote(str(UUID(int=9_000 + i)), str(voter(who)), str(meme(which)), amount, i)
        for i, (which, who, amount) in enumerate(placed, start=1)
    ]


def count(votes: list[CountedVote], policy: Policy = STANDARD_1) -> Tally:
    return tally(votes, curve=policy.curve)


def tally(votes: list[CountedVote], *, curve: Curve, block: str = BLOCK) -> Tally:
    """In two parts, as a round is read in pages."""
    counting = Counting()
    for part in (votes[: len(votes) // 2], votes[len(votes) // 2 :]):
        counting.add(part)
    return counting.tally(CREATORS, curve=curve, closing_block_hash=block)


def share_out(
    votes: list[CountedVote], carry_in: int = 0, policy: Policy = STANDARD_1
) -> Distribution:
    return distribute(policy, count(votes, policy), carry_in)


amounts = st.one_of(st.integers(1, 40), st.integers(1, 10**6), st.integers(1, 10**13))
placements = st.lists(
    st.tuples(st.integers(0, 11), st.integers(0, 150), amounts), min_size=1, max_size=200
)
carries = st.integers(0, 10**12)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    creators_bp = draw(st.one_of(st.just(0), st.integers(CREATORS_BP_MIN, BASIS_POINTS)))
    left_bp = BASIS_POINTS - creators_bp
    cuts = sorted(draw(st.lists(st.integers(0, left_bp), min_size=5, max_size=5)))
    parts = [b - a for a, b in zip([0, *cuts], [*cuts, left_bp], strict=True)]
    sizes = draw(st.lists(st.integers(1, 60), min_size=2, max_size=2))
    return Policy(
        id="drawn",
        fee_bp=parts[0],
        creators_bp=creators_bp,
        places_bp=tuple(sorted(parts[1:4], reverse=True)),
        tiers=(Tier(1, sizes[0], parts[4]), Tier(sizes[0] + 1, sum(sizes), parts[5])),
        min_stake=1,
        curve=draw(st.sampled_from(["linear", "sqrt"])),
    )


@given(placements, carries, policies())
def test_no_satoshi_is_unaccounted_for(
    placed: list[tuple[int, int, int]], carry_in: int, policy: Policy
) -> None:
    votes = votes_of(*placed)
    result = share_out(votes, carry_in, policy)
    assert result.pot == sum(vote.amount for vote in votes) + carry_in
    assert result.pot == result.fee + result.carry_out + sum(r.amount for r in result.rewards)
    assert result.fee == result.pot * policy.fee_bp // BASIS_POINTS
    assert result.carry_out >= 0
    assert all(line.amount > 0 for line in result.rewards)


@given(placements, carries, policies(), st.randoms(use_true_random=False))
def test_the_order_in_which_votes_are_read_changes_nothing(
    placed: list[tuple[int, int, int]], carry_in: int, policy: Policy, random: Random
) -> None:
    votes = votes_of(*placed)
    shuffled = list(votes)
    random.shuffle(shuffled)
    first, second = share_out(votes, carry_in, policy), share_out(shuffled, carry_in, policy)
    assert first == second
    assert rewards_root("7", first) == rewards_root("7", second)
    assert votes_root("7", votes) == votes_root("7", shuffled)


@given(placements, carries, st.integers(0, 11), st.integers(0, 200), amounts, policies())
def test_a_creator_never_gets_less_when_its_meme_gets_more(
    placed: list[tuple[int, int, int]],
    carry_in: int,
    which: int,
    who: int,
    more: int,
    policy: Policy,
) -> None:
    def creators_rewards(votes: list[CountedVote]) -> int:
        lines = share_out(votes, carry_in, policy).rewards
        return sum(line.amount for line in lines if line.recipient == creator(which))

    before = creators_rewards(votes_of(*placed))
    after = creators_rewards(votes_of(*placed, (which, who, more)))
    assert after >= before


@given(
    st.lists(st.integers(1, 60), min_size=2, max_size=6),
    st.integers(0, 9),
    st.sampled_from([CREATORS_BP_MIN, 5_000, BASIS_POINTS]),
)
def test_no_creator_loses_by_a_single_satoshi(
    stakes: list[int], carry_in: int, creators_bp: int
) -> None:
    """Small pots, where one satoshi more moves the bucket and every remainder."""
    tier = Tier(1, 1, BASIS_POINTS - creators_bp)
    policy = replace(STANDARD_1, fee_bp=0, creators_bp=creators_bp, places_bp=(), tiers=(tier,))

    def rewards(*more: tuple[int, int, int]) -> Counter[UUID]:
        placed = [(which, which, amount) for which, amount in enumerate(stakes)]
        lines = share_out(votes_of(*placed, *more), carry_in, policy).rewards
        return Counter({r.recipient: r.amount for r in lines if r.reason == "creator"})

    before = rewards()
    for which in range(len(stakes)):
        assert rewards((which, which, 1))[creator(which)] >= before[creator(which)]


@given(placements)
def test_only_memes_with_stakes_rank_and_ranks_have_no_gaps(
    placed: list[tuple[int, int, int]],
) -> None:
    ranking = count(votes_of(*placed)).ranking
    assert [each.rank for each in ranking] == list(range(1, len(ranking) + 1))
    assert {each.content_id for each in ranking} == {meme(which) for which, _, _ in placed}
    stakes = [each.stakes for each in ranking]
    assert stakes == sorted(stakes, reverse=True)


@given(placements, carries)
def test_every_backer_has_one_place_and_tiers_are_fair(
    placed: list[tuple[int, int, int]], carry_in: int
) -> None:
    result = share_out(votes_of(*placed), carry_in)
    backing = [line for line in result.rewards if line.reason.startswith("backers:")]
    assert max(Counter(line.recipient for line in backing).values(), default=1) == 1
    for tier in STANDARD_1.tiers:
        shares = [r.amount for r in backing if r.reason == f"backers:{tier.first}-{tier.last}"]
        assert shares == sorted(shares, reverse=True)
        assert not shares or shares[0] - shares[-1] <= 1


def test_a_round_worked_by_hand() -> None:
    votes = votes_of((0, 1, 600), (1, 2, 300), (0, 3, 50), (2, 4, 50), (0, 1, 100))
    result = share_out(votes, carry_in=900)
    assert (result.pot, result.fee) == (2000, 40)
    assert [(line.recipient, line.amount, line.reason) for line in result.rewards] == [
        (creator(0), 682, "creator"),  # 1000 * 750 / 1100 = 681.8
        (creator(1), 273, "creator"),  # 272.7
        (creator(2), 45, "creator"),  # 45.5, the smallest remainder
        (creator(0), 115, "place:1"),
        (creator(1), 57, "place:2"),
        (creator(2), 19, "place:3"),
        (voter(1), 192, "backers:1-5"),
        (voter(3), 192, "backers:1-5"),
    ]
    assert result.carry_out == 2000 - 40 - 1000 - 191 - 384


def test_a_tiny_pot_has_no_lines_of_zero() -> None:
    result = share_out(votes_of((0, 1, 1)))
    assert result == Distribution(pot=1, fee=0, carry_out=1, rewards=())


def test_a_round_without_counted_votes_takes_no_carry_and_pays_no_fee() -> None:
    assert share_out([]) == Distribution(pot=0, fee=0, carry_out=0, rewards=())
    with pytest.raises(ValueError, match="takes no carry"):
        share_out([], carry_in=1)


def test_equal_stakes_are_ranked_by_backers_and_then_by_the_block() -> None:
    votes = votes_of((0, 1, 10), (1, 2, 5), (1, 3, 5), (2, 4, 10), (3, 5, 10))
    order = [each.content_id for each in count(votes).ranking]
    assert order[0] == meme(1)
    other = tally(votes, curve="linear", block="ff" * 32)
    assert {each.content_id for each in other.ranking} == set(order)
    orders = {
        tuple(each.content_id for each in tally(votes, curve="linear", block=f"{n:064x}").ranking)
        for n in range(64)
    }
    assert len(orders) == 6  # all orders of the three that are equal


def test_a_backers_place_is_their_first_vote_on_the_winner() -> None:
    votes = votes_of((1, 1, 5), (0, 2, 50), (0, 1, 50), (0, 2, 50))
    assert count(votes).backers == (str(voter(2)), str(voter(1)))


def test_sqrt_lets_many_small_backers_outrank_one_large_one() -> None:
    votes = votes_of((0, 1, 100), (1, 2, 30), (1, 3, 30))
    assert count(votes).ranking[0].content_id == meme(0)
    root = tally(votes, curve="sqrt")
    assert root.ranking[0].content_id == meme(1)
    assert root.stakes == 160  # money is never scaled


def test_splitting_a_stake_into_many_votes_does_not_raise_a_sqrt_score() -> None:
    votes = votes_of(*[(0, 1, 1)] * 100, (1, 2, 101))
    root = tally(votes, curve="sqrt")
    assert root.ranking[0].content_id == meme(1)


def test_a_policy_survives_its_document() -> None:
    assert policy_of(STANDARD_1.document()) == STANDARD_1
