"""One whole round, played through the public API, and the proof that no satoshi is missing."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx

from memepool_chain.whatsonchain import WhatsOnChain
from memepool_common.db import Database
from memepool_common.settings import DatabaseSettings
from memepool_sandbox.accounting import (
    SOURCE_RATE_PER_S,
    Check,
    check_coins,
    check_ledger,
    check_pot,
)
from memepool_sandbox.players.http import REQUEST_TIMEOUT_S, Api
from memepool_sandbox.players.player import TROUBLE, Player, eventually

CREATORS = 5
VOTERS = 25
DEPOSIT_SATS = 100_000
STAKE_SATS_MIN, STAKE_SATS_MAX = 500, 20_000
VOTES_MAX = 3
AT_ONCE = 8
CREDIT_TIMEOUT_S = 45.0
SETTLE_TIMEOUT_S = 60.0

Say = Callable[[str], None]


@dataclass
class Game:
    """What the players did, as they saw it."""

    creators: list[Player]
    voters: list[Player]
    memes: dict[str, str] = field(default_factory=dict)  # content id: the creator's name
    votes: list[dict[str, Any]] = field(default_factory=list)


async def demo(
    gateway_url: str, chain_url: str, payments: DatabaseSettings, *, seed: bytes, say: Say
) -> bool:
    """Play a round with 5 creators and 25 voters; whether all checks hold.

    Args:
        gateway_url: the public API.
        chain_url: the simulated chain and its control API.
        payments: payments' database, which only the ledger's check reads.
        seed: makes the players' keys.
        say: prints a line.
    """
    async with (
        httpx.AsyncClient(base_url=gateway_url, timeout=REQUEST_TIMEOUT_S) as public,
        httpx.AsyncClient(base_url=chain_url, timeout=REQUEST_TIMEOUT_S) as chain,
        WhatsOnChain(f"{chain_url}/v1/bsv", rate_per_s=SOURCE_RATE_PER_S) as source,
    ):
        api, control = Api(public), Api(chain)
        game = Game(
            [Player(f"creator {n}", b"%s/c%d" % (seed, n), api, control) for n in range(CREATORS)],
            [Player(f"voter {n}", b"%s/v%d" % (seed, n), api, control) for n in range(VOTERS)],
        )
        started_s = time.monotonic()
        try:
            round_id = await _play(game, control, say)
            results = await game.voters[0].call("GET", f"/rounds/{round_id}/results")
            _tell(results, game, say)
            checks = await _checks(game, results, payments, source)
        except TROUBLE as error:
            say(f"\nThe round could not be played: {type(error).__name__}: {error}")
            return False
    say("")
    for check in checks:
        say(f"  {'ok   ' if check.holds else 'WRONG'} {check.claim}: {check.numbers}")
    good = all(check.holds for check in checks)
    verdict = "Every satoshi is accounted for" if good else "SATOSHIS ARE MISSING"
    say(f"\n{verdict} ({time.monotonic() - started_s:.1f} s).")
    return good


async def _play(game: Game, control: Api, say: Say) -> str:
    """Everything up to the settled round; its id."""
    everybody = [*game.creators, *game.voters]
    await _all(player.sign_in for player in everybody)
    await _all(player.become_creator for player in game.creators)
    say(f"{len(everybody)} wallets signed in, {len(game.creators)} of them became creators")

    await _all(partial(player.deposit, DEPOSIT_SATS) for player in game.voters)
    await control.call("POST", "/control/mine", json={"blocks": 1})
    await _all(
        partial(player.until_available, DEPOSIT_SATS, CREDIT_TIMEOUT_S) for player in game.voters
    )
    say(f"{len(game.voters)} deposits of {DEPOSIT_SATS} sat were mined, proven and credited")

    memes = await _all(player.upload for player in game.creators)
    game.memes = dict(zip(memes, (player.name for player in game.creators), strict=True))
    current = await game.voters[0].call("GET", "/rounds/current")
    round_id = str(current["id"])
    await _all(
        partial(player.submit, meme, round_id)
        for player, meme in zip(game.creators, memes, strict=True)
    )
    say(f"round {round_id}: {len(memes)} memes uploaded, checked and entered")

    for votes in await _all(partial(_vote, p, round_id, memes) for p in game.voters):
        game.votes += votes
    counted = [vote for vote in game.votes if vote["state"] == "counted"]
    staked = sum(vote["amount"] for vote in counted)
    say(f"round {round_id}: {len(counted)} of {len(game.votes)} votes counted, {staked} sat")

    mined = await control.call("POST", "/control/mine", json={"blocks": 1})
    say(f"block {mined['height']} arrived")
    await _until_settled(game.voters[0], round_id)
    return round_id


async def _vote(player: Player, round_id: str, memes: list[str]) -> list[dict[str, Any]]:
    """One to three stakes on different memes; popular ones are likelier."""
    count = player.rng.randint(1, VOTES_MAX)
    weights = [len(memes) - n for n in range(len(memes))]
    chosen = dict.fromkeys(player.rng.choices(memes, weights, k=count))
    return [
        await player.vote(round_id, meme, player.rng.randint(STAKE_SATS_MIN, STAKE_SATS_MAX))
        for meme in chosen
    ]


async def _until_settled(player: Player, round_id: str) -> None:
    async def settled() -> bool | None:
        current = await player.call("GET", f"/rounds/{round_id}")
        return True if current["state"] == "settled" else None

    await eventually(settled, SETTLE_TIMEOUT_S)


async def _checks(
    game: Game, results: dict[str, Any], payments: DatabaseSettings, source: WhatsOnChain
) -> list[Check]:
    counted_sats = sum(vote["amount"] for vote in game.votes if vote["state"] == "counted")
    reserves = await game.voters[0].call("GET", "/payments/reserves")
    database = Database.connect(payments, application_name="demo")
    try:
        return [
            *check_pot(results, counted_sats),
            await _check_balances(game, results),
            *await check_ledger(database),
            await check_coins(database, source, reserves),
        ]
    finally:
        await database.close()


async def _check_balances(game: Game, results: dict[str, Any]) -> Check:
    """Each player has what was deposited, less the stakes that counted, plus the rewards."""
    expected: Counter[str] = Counter()
    for player in game.voters:
        expected[player.user_id] += DEPOSIT_SATS
    for vote in game.votes:
        if vote["state"] == "counted":
            expected[vote["voterId"]] -= vote["amount"]
    for line in results["rewards"]:
        expected[line["recipient"]] += line["amount"]
    everybody = [*game.creators, *game.voters]
    balances = await _all(player.balance for player in everybody)
    wrong = [
        f"{player.name} has {balance['available']}, not {expected[player.user_id]}"
        for player, balance in zip(everybody, balances, strict=True)
        if balance["available"] != expected[player.user_id] or balance["held"] != 0
    ]
    claim = "each balance = deposits - stakes + rewards"
    return Check(claim, not wrong, "; ".join(wrong) or f"{len(everybody)} players")


def _tell(results: dict[str, Any], game: Game, say: Say) -> None:
    """Ranking and money of the round."""
    say(f"\nround {results['roundId']} is settled\n\n  rank  meme of      stakes  backers")
    for meme in results["ranking"]:
        name = game.memes.get(meme["contentId"], meme["contentId"])
        say(f"  {meme['rank']:>4}  {name:<10} {meme['stakes']:>8}  {meme['backers']:>7}")
    by_reason: dict[str, list[int]] = {}
    for line in results["rewards"]:
        by_reason.setdefault(line["reason"], []).append(line["amount"])
    say("\n  rewards")
    for reason, amounts in by_reason.items():
        say(f"    {reason:<24} {len(amounts):>3} x, {sum(amounts):>8} sat")
    say(f"  fee        {results['fee']:>10} sat")
    say(f"  carry-over {results['carryOut']:>10} sat")
    say(f"  pot        {results['pot']:>10} sat")


async def _all(calls: Iterable[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """Make all calls, a few at a time; their answers in order."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(call: Callable[[], Awaitable[Any]]) -> Any:
        async with turns:
            return await call()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(call)) for call in calls]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None  # the first one is the one to read
    return [task.result() for task in tasks]
