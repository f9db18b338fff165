"""A crowd that keeps a sandbox lively: it enters memes into every round and votes on them."""

import asyncio
import contextlib
import random
from typing import NamedTuple

import httpx
import structlog

from memepool_sandbox.players.http import REQUEST_TIMEOUT_S, Api, ApiError
from memepool_sandbox.players.player import TROUBLE, Player

CREATOR_SHARE = 3  # every third player, and at least two
DEPOSIT_SATS = 200_000
LOW_SATS = 20_000
STAKE_SATS_MAX = 3_000
VOTES_PER_ROUND_MAX = 3
VOTE_CHANCE = 0.3  # each time a player looks
WATCH_S = 1.5
PAUSE_AFTER_ERROR_S = 5.0
NEW_MEME_CHANCE = 0.5
CONNECTIONS = 50

log = structlog.get_logger("memepool.players")


async def play(
    gateway_url: str, chain_url: str, *, count: int, seed: bytes, stopping: asyncio.Event
) -> None:
    """Let `count` players play until `stopping` is set.

    Args:
        gateway_url: the public API.
        chain_url: the simulated chain, whose faucet pays them.
        count: how many.
        seed: makes their keys; the same seed, the same users with the same balances.
        stopping: ends them.
    """
    limits = httpx.Limits(max_connections=CONNECTIONS)
    async with (
        httpx.AsyncClient(base_url=gateway_url, timeout=REQUEST_TIMEOUT_S, limits=limits) as public,
        httpx.AsyncClient(base_url=chain_url, timeout=REQUEST_TIMEOUT_S) as chain,
    ):
        api, control = Api(public), Api(chain)
        creators = max(2, count // CREATOR_SHARE)
        async with asyncio.TaskGroup() as tasks:
            lives = [
                tasks.create_task(
                    _live(_player(n, seed, api, control), stopping, is_creator=n < creators)
                )
                for n in range(count)
            ]
            await stopping.wait()
            for life in lives:
                life.cancel()


def _player(n: int, seed: bytes, api: Api, control: Api) -> Player:
    return Player(f"player-{n}", b"%s/%d" % (seed, n), api, control)


class _Part(NamedTuple):
    """What a player still means to do in a round."""

    round_id: str
    votes_left: int


async def _live(player: Player, stopping: asyncio.Event, *, is_creator: bool) -> None:
    """Whatever goes wrong, a player comes back: the API may be away, a round may just close."""
    player.rng.seed()  # every start draws new memes and other stakes; only the key must stay
    part = _Part("", 0)
    while not stopping.is_set():
        try:
            if not player.user_id:
                await player.sign_in()
                if is_creator:
                    await player.become_creator()
            part = await _turn(player, part, is_creator=is_creator)
        except TROUBLE as error:
            log.debug("player in trouble", player=player.name, error=str(error))
            await asyncio.sleep(PAUSE_AFTER_ERROR_S * random.uniform(0.5, 1))
        await asyncio.sleep(WATCH_S * random.uniform(0.5, 1.5))


async def _turn(player: Player, part: _Part, *, is_creator: bool) -> _Part:
    """Look at the current round: prepare for a new one, or perhaps vote in it."""
    current = await player.call("GET", "/rounds/current")
    if current["state"] != "open":
        return part
    round_id = str(current["id"])
    if round_id != part.round_id:
        await _fund(player)
        if is_creator:
            await _enter(player)
        return _Part(round_id, player.rng.randint(1, VOTES_PER_ROUND_MAX))
    if part.votes_left > 0 and player.rng.random() < VOTE_CHANCE and await _vote(player, round_id):
        return part._replace(votes_left=part.votes_left - 1)
    return part


async def _fund(player: Player) -> None:
    balance = await player.balance()
    if balance["available"] + balance["pending"] < LOW_SATS:
        await player.deposit(DEPOSIT_SATS)


async def _enter(player: Player) -> None:
    """A new meme, or one that ran before."""
    ready = await player.ready_memes()
    if not ready or player.rng.random() < NEW_MEME_CHANCE:
        meme = await player.upload()
    else:
        meme = player.rng.choice(ready)
    with contextlib.suppress(ApiError):  # the round may have closed, the meme may be in it
        await player.submit(meme)


async def _vote(player: Player, round_id: str) -> bool:
    """Stake on somebody else's meme; whether there was one and money for it."""
    page = await player.call("GET", f"/rounds/{round_id}/submissions")
    others = [meme for meme in page["items"] if meme["creatorId"] != player.user_id]
    available = (await player.balance())["available"]
    stake = min(player.rng.randint(1, STAKE_SATS_MAX), available)
    if not others or stake <= 0:
        return False
    await player.vote(round_id, player.rng.choice(others)["contentId"], stake)
    return True
