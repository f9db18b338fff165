"""A round from end to end, through the public API only."""

import asyncio
import secrets
from functools import partial
from typing import Any

import pytest

from memepool_sandbox.players.player import Player

pytestmark = pytest.mark.asyncio(loop_scope="module")
DEPOSIT_SATS = 100_000
WAY_OF_A_VOTE = {
    "POST /rounds/*",  # at the gateway
    "POST /rounds/{roundId}/vote",
    "consume payments.stakes",
    "consume rounds.stakes",
    "consume auth.stats",
    "consume gateway.stream",
}


async def _staked_round(world: Any, creators: int, voters: int) -> tuple[Any, ...]:
    """Creators with a meme each in the current round, voters with a credited deposit."""
    makers = await asyncio.gather(*(world.player("creator") for _ in range(creators)))
    backers = await asyncio.gather(
        *(world.player(deposit_sats=DEPOSIT_SATS) for _ in range(voters))
    )
    memes = await asyncio.gather(*(maker.upload() for maker in makers))
    round_id = await world.next_round()  # the block confirms the deposits, too
    await asyncio.gather(*(backer.until_available(DEPOSIT_SATS, 30) for backer in backers))
    await asyncio.gather(
        *(maker.submit(meme, round_id) for maker, meme in zip(makers, memes, strict=True))
    )
    return round_id, makers, backers, memes


def _earned(results: dict[str, Any], player: Player) -> int:
    lines = [line for line in results["rewards"] if line["recipient"] == player.user_id]
    return sum(line["amount"] for line in lines)


async def test_a_round_pays_what_its_rule_says_and_loses_nothing(world: Any) -> None:
    round_id, makers, backers, memes = await _staked_round(world, creators=3, voters=4)
    stakes = [(0, 0, 10_000), (1, 0, 5_000), (2, 1, 7_000), (3, 2, 1_000), (0, 1, 500)]
    for backer, meme, amount in stakes:
        vote = await backers[backer].vote(round_id, memes[meme], amount)
        assert (vote["state"], vote["amount"], vote["roundId"]) == ("counted", amount, round_id)
    await world.next_round()
    results = await world.settled(round_id)

    rewards = sum(line["amount"] for line in results["rewards"])
    assert results["pot"] == 23_500 + results["carryIn"]
    assert results["pot"] == results["fee"] + rewards + results["carryOut"]
    assert results["fee"] == results["pot"] * 200 // 10_000
    assert [place["contentId"] for place in results["ranking"]] == [memes[0], memes[1], memes[2]]
    assert [place["stakes"] for place in results["ranking"]] == [15_000, 7_500, 1_000]
    assert [place["backers"] for place in results["ranking"]] == [2, 2, 1]
    first_places = results["pot"] * 1920 // 10_000
    backed = {
        line["recipient"]: line["amount"]
        for line in results["rewards"]
        if line["reason"] == "backers:1-5"
    }
    assert backed == {
        backers[0].user_id: first_places - first_places // 2,
        backers[1].user_id: first_places // 2,
    }

    for number, backer in enumerate(backers):
        spent = sum(amount for who, _, amount in stakes if who == number)
        balance = await backer.balance()
        assert balance["available"] == DEPOSIT_SATS - spent + _earned(results, backer)
        assert balance["held"] == 0
    for maker in makers:
        assert (await maker.balance())["available"] == _earned(results, maker)
    history = await backers[0].call("GET", "/payments/history")
    kinds = sorted(item["type"] for item in history["items"])
    assert kinds == ["deposit", "reward", "stake", "stake"]
    voter, pool = backers[0].user_id, f"round:{round_id}"
    ways = {(item["type"], item["sender"], item["recipient"]) for item in history["items"]}
    assert ways == {
        ("deposit", None, voter),
        ("stake", voter, pool),
        ("reward", pool, voter),
    }
    await world.adds_up()


async def test_one_trace_leads_from_the_request_to_the_last_consumer(world: Any) -> None:
    round_id, _, (backer,), (meme,) = await _staked_round(world, creators=1, voters=1)
    trace_id = secrets.token_hex(16)
    answer = await world.http.post(
        f"/rounds/{round_id}/vote",
        json={"contentId": meme, "amount": 1_000},
        headers={
            "Authorization": f"Bearer {backer._access_token}",
            "traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01",
        },
    )
    assert answer.is_success, answer.text

    async def arrived() -> bool:
        return bool(world.spans.names(trace_id) >= WAY_OF_A_VOTE)

    await world.until(arrived)


async def test_results_of_a_round_are_the_same_for_everybody_and_for_ever(world: Any) -> None:
    first, second = await world.get("/rounds"), await world.get("/rounds")
    closed = [each["id"] for each in first["items"] if each["state"] == "settled"]
    assert closed
    assert first["items"] == second["items"]
    for round_id in closed:
        assert await world.get(f"/rounds/{round_id}/results") == await world.get(
            f"/v1/rounds/{round_id}/results"
        )


async def test_a_vote_without_money_is_rejected_and_costs_nothing(world: Any) -> None:
    round_id, _, _, memes = await _staked_round(world, creators=1, voters=0)
    poor = await world.player()
    vote = await poor.vote(round_id, memes[0], 1_000)
    assert (vote["state"], vote["reason"]) == ("rejected", "insufficient_funds")
    await world.next_round()
    results = await world.settled(round_id)
    assert (results["pot"], results["fee"], results["rewards"]) == (0, 0, [])
    assert (await poor.balance())["available"] == 0
    await world.adds_up()


async def test_a_meme_removed_in_mid_round_gives_its_stakes_back(world: Any) -> None:
    round_id, makers, backers, memes = await _staked_round(world, creators=2, voters=2)
    await backers[0].vote(round_id, memes[0], 5_000)
    await backers[1].vote(round_id, memes[1], 3_000)
    await makers[0].call("DELETE", f"/content/{memes[0]}")

    async def refunded() -> bool:
        return bool((await backers[0].balance())["available"] == DEPOSIT_SATS)

    await world.until(refunded)
    await world.next_round()
    results = await world.settled(round_id)
    assert [place["contentId"] for place in results["ranking"]] == [memes[1]]
    assert results["pot"] - results["carryIn"] == 3_000
    await world.adds_up()


async def test_what_is_left_over_is_in_a_later_pot_and_says_so(world: Any) -> None:
    round_id, _, backers, memes = await _staked_round(world, creators=1, voters=1)
    await backers[0].vote(round_id, memes[0], 10_000)
    following = await world.next_round()
    left = (await world.settled(round_id))["carryOut"]
    assert left > 0  # nobody is second or third, nobody has places 6 to 100
    maker = await world.player("creator")
    meme = await maker.upload()
    await maker.submit(meme, following)
    await backers[0].vote(following, meme, 1_000)
    await world.next_round()
    results = await world.settled(following)
    assert {"roundId": round_id, "amount": left} in results["carrySources"]
    assert results["pot"] == 1_000 + results["carryIn"]
    await world.adds_up()


async def test_a_transfer_with_a_key_is_made_once(world: Any) -> None:
    sender = await world.player(deposit_sats=DEPOSIT_SATS)
    recipient = await world.player()
    await world.next_round()
    await sender.until_available(DEPOSIT_SATS, 30)
    body = {"recipient": recipient.wallet.address, "amount": 1_234, "memo": "for the laugh"}
    headers = {
        "Authorization": f"Bearer {sender._access_token}",
        "Idempotency-Key": "one-transfer",
    }
    answers = [
        await world.http.post("/payments/transfer", json=body, headers=headers) for _ in range(3)
    ]
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert answers[0].json() == answers[1].json() == answers[2].json()
    other = await world.http.post(
        "/payments/transfer", json=body | {"amount": 1_235}, headers=headers
    )
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert (await sender.balance())["available"] == DEPOSIT_SATS - 1_234
    assert (await recipient.balance())["available"] == 1_234
    (received,) = (await recipient.call("GET", "/payments/history"))["items"]
    assert (received["type"], received["amount"], received["memo"]) == (
        "transfer",
        1_234,
        "for the laugh",
    )
    await world.adds_up()


async def test_an_ended_session_is_refused_everywhere(world: Any) -> None:
    player = await world.player()
    headers = {"Authorization": f"Bearer {player._access_token}"}
    assert (await world.http.get("/payments/balance", headers=headers)).status_code == 200
    assert (await world.http.delete("/auth/session", headers=headers)).status_code == 204

    async def refused(path: str) -> bool:
        answer = await world.http.get(path, headers=headers)
        return (answer.status_code, answer.json().get("code")) == (401, "session_ended")

    for path in ("/auth/me", "/payments/balance", "/content/audit", "/rounds/audit"):
        await world.until(partial(refused, path))


async def test_a_reorganised_deposit_is_taken_back_and_credited_again(world: Any) -> None:
    player = await world.player(deposit_sats=50_000)
    await world.next_round()
    await player.until_available(50_000, 30)
    await world.control("reorg", depth=1)

    async def gone() -> bool:
        return bool((await player.balance())["available"] == 0)

    await world.until(gone)
    await world.control("mine", blocks=1)
    await player.until_available(50_000, 30)
    kinds = [item["type"] for item in (await player.call("GET", "/payments/history"))["items"]]
    assert kinds == ["deposit", "deposit_reversal", "deposit"]
    await world.adds_up()
