"""A crowd that keeps a sandbox lively: it enters memes into every round and votes on them."""

import asyncio
import contextlib
import random
from typing import Any

import httpx
import structlog

from memepool_sandbox.players.http import REQUEST_TIMEOUT_S, Api, ApiError
from memepool_sandbox.players.player import Player, UploadRejectedError

CREATOR_SHARE = 3  # every third player, and at least two
DEPOSIT_SATS = 200_000
LOW_SATS = 20_000
STAKE_SATS_MAX = 3_000
VOTES_PER_ROUND_MAX = 3
WATCH_S = 1.5
PAUSE_AFTER_ERROR_S = 5.0
NEW_MEME_CHANCE = 0.5
CONNECTIONS = 50

log = structlog.get_logger("memepool.players")
_TROUBLE = (ApiError, httpx.HTTPError, UploadRejectedError, TimeoutError)


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


async def _live(player: Player, stopping: asyncio.Event, *, is_creator: bool) -> None:
    """Whatever goes wrong, a player comes back: the API may be away, a round may just close."""
    player.rng.seed()  # every start draws new memes and other stakes; only the key must stay
    played = ""
    while not stopping.is_set():
        try:
            if not player.user_id:
                await player.sign_in()
                if is_creator:
                    await player.become_creator()
            played = await _turn(player, played, is_creator=is_creator)
        except _TROUBLE as error:
            log.debug("player in trouble", player=player.name, error=str(error))
            await asyncio.sleep(PAUSE_AFTER_ERROR_S * random.uniform(0.5, 1))
        await asyncio.sleep(WATCH_S * random.uniform(0.5, 1.5))


async def _turn(player: Player, played: str, *, is_creator: bool) -> str:
    """Look at the current round and take part in it once; the id of the round played."""
    current = await player.call("GET", "/rounds/current")
    if current["state"] != "open":
        return played
    if current["id"] != played:
        await _fund(player)
        if is_creator:
            await _enter(player)
    elif current["submissions"] and player.rng.random() < 1 / VOTES_PER_ROUND_MAX:
        await _vote(player, current)
    return str(current["id"])


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


async def _vote(player: Player, current: dict[str, Any]) -> None:
    others = [s for s in current["submissions"] if s["creatorId"] != player.user_id]
    available = (await player.balance())["available"]
    stake = min(player.rng.randint(1, STAKE_SATS_MAX), available)
    if others and stake > 0:
        choice = player.rng.choice(others)
        await player.vote(current["id"], choice["contentId"], stake)
