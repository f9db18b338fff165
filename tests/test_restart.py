"""A process that is killed at any moment and started again has lost nothing and paid nothing twice.

Moments are chosen by what is seen over HTTP. Everything here is one DATA folder's life.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest
import pytest_asyncio

from memepool_sandbox.players import memes
from memepool_sandbox.players.http import Api
from memepool_sandbox.players.player import Player, eventually
from tests.conftest import adds_up
from tests.launched import START_TIMEOUT_S, Launched

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]
DEPOSIT_SATS = 500_000
STAKE_SATS = 700
VOTES_EACH = 12
UPLOADS_EACH = 3
RESIDENT_BYTES_MAX = 700 * 1024 * 1024
DRAIN_S = 20.0
SETTLE_S = 60.0


@dataclass
class Ballot:
    """A vote as its voter sent it, and the answer if there was one."""

    voter: Player
    meme: str
    key: str
    accepted: dict[str, Any] | None = None


@dataclass
class House:
    """The system under test and who plays in it."""

    launched: Launched
    http: httpx.AsyncClient
    chain: httpx.AsyncClient
    creators: list[Player]
    voters: list[Player]
    rounds: list[str] = field(default_factory=list)
    memes: list[str] = field(default_factory=list)

    async def get(self, path: str) -> dict[str, Any]:
        answer = await self.http.get(path)
        assert answer.is_success, answer.text
        result: dict[str, Any] = answer.json()
        return result

    async def mine(self) -> None:
        (await self.chain.post("/control/mine", json={"blocks": 1})).raise_for_status()

    async def restart(self) -> None:
        """Start again; all wallets sign in and find the users that they were."""
        await self.launched.start()
        for player in (*self.creators, *self.voters):
            before = player.user_id
            await player.sign_in()
            assert player.user_id == before

    async def enter(self) -> str:
        """The current round, with a meme of each creator in it."""
        round_id = str((await self.get("/rounds/current"))["id"])
        if round_id not in self.rounds:
            self.rounds.append(round_id)
            for creator, meme in zip(self.creators, self.memes, strict=True):
                await creator.submit(meme, round_id)
        return round_id

    def ballots(self) -> list[Ballot]:
        """Votes of everybody for all memes, not yet sent."""
        count = range(VOTES_EACH)
        return [
            Ballot(voter, self.memes[n % len(self.memes)], str(uuid4()))
            for n in count
            for voter in self.voters
        ]

    async def cast(self, ballot: Ballot, round_id: str) -> httpx.Response | None:
        """Send a vote once; None when the connection broke."""
        with contextlib.suppress(httpx.TransportError):
            return await self.http.post(
                f"/rounds/{round_id}/vote",
                json={"contentId": ballot.meme, "amount": STAKE_SATS},
                headers={
                    "Authorization": f"Bearer {ballot.voter._access_token}",
                    "Idempotency-Key": ballot.key,
                },
            )
        return None

    async def cast_all(
        self, ballots: list[Ballot], round_id: str, then: Callable[[int], None]
    ) -> None:
        """Send all at once; `then` is told, after each that is accepted, how many there are."""
        accepted = 0

        async def one(ballot: Ballot) -> None:
            nonlocal accepted
            answer = await self.cast(ballot, round_id)
            if answer is not None and answer.is_success:
                ballot.accepted = answer.json()
                accepted += 1
                then(accepted)

        await asyncio.gather(*(one(ballot) for ballot in ballots))

    async def upload(self, creator: Player) -> dict[str, Any]:
        """Send a meme; the answer, which comes before it is processed."""
        image = memes.draw(memes.caption(creator.rng), creator.rng)
        files = {"file": ("meme.jpg", image, "image/jpeg")}
        return await creator.call("POST", "/content/upload", files=files)

    async def settled(self, round_id: str) -> None:
        async def done() -> bool | None:
            state = (await self.get(f"/rounds/{round_id}"))["state"]
            return True if state == "settled" else None

        await eventually(done, SETTLE_S)

    async def votes(self, round_id: str) -> list[dict[str, Any]]:
        """All votes of a closed round."""
        votes, more = [], f"/rounds/{round_id}/votes?limit=100"
        while more:
            page = await self.voters[0].call("GET", more)
            votes += page["items"]
            cursor = page["nextCursor"]
            more = f"/rounds/{round_id}/votes?limit=100&cursor={cursor}" if cursor else ""
        return votes

    async def everything_adds_up(self, ballots: list[Ballot]) -> None:
        """All rounds are settled: each accepted vote is in its pot or was refused, all is paid."""
        balance = {player.user_id: DEPOSIT_SATS for player in self.voters}
        balance |= {player.user_id: 0 for player in self.creators}
        states: dict[str, str] = {}
        for round_id in self.rounds:
            results = await self.get(f"/rounds/{round_id}/results")
            votes = await self.votes(round_id)
            counted = [vote for vote in votes if vote["state"] == "counted"]
            states |= {vote["id"]: vote["state"] for vote in votes}
            assert results["pot"] == sum(vote["amount"] for vote in counted) + results["carryIn"]
            rewards = sum(line["amount"] for line in results["rewards"])
            assert results["pot"] == results["fee"] + rewards + results["carryOut"]
            for vote in counted:
                balance[vote["voterId"]] -= vote["amount"]
            for line in results["rewards"]:
                balance[line["recipient"]] += line["amount"]
        accepted = {ballot.accepted["id"] for ballot in ballots if ballot.accepted}
        assert {states[vote_id] for vote_id in accepted} <= {"counted", "rejected"}
        for player in (*self.creators, *self.voters):
            has = await player.balance()
            assert (has["available"], has["held"]) == (balance[player.user_id], 0), player.name
        reserves = await self.get("/payments/reserves")
        await adds_up(self.launched.payments(), self.launched.chain_url, reserves)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    launched = Launched(tmp_path_factory.mktemp("restart") / "data")
    try:
        await launched.start()
        async with (
            httpx.AsyncClient(base_url=launched.gateway_url, timeout=30) as http,
            httpx.AsyncClient(base_url=launched.chain_url, timeout=30) as chain,
        ):
            api, control = Api(http), Api(chain)

            def player(name: str) -> Player:
                return Player(name, uuid4().bytes, api, control)

            creators = [player(f"creator-{n}") for n in range(2)]
            voters = [player(f"voter-{n}") for n in range(4)]
            house = House(launched, http, chain, creators, voters)
            await asyncio.gather(*(each.sign_in() for each in (*creators, *voters)))
            await asyncio.gather(*(creator.become_creator() for creator in creators))
            await asyncio.gather(*(voter.deposit(DEPOSIT_SATS) for voter in voters))
            await house.mine()
            await asyncio.gather(*(voter.until_available(DEPOSIT_SATS, 30) for voter in voters))
            house.memes = await asyncio.gather(*(creator.upload() for creator in creators))
            yield house
    finally:
        launched.stop()


async def test_killed_while_votes_are_pending_and_uploads_are_processed(house: House) -> None:
    round_id = await house.enter()
    uploads = [await house.upload(creator) for creator in house.creators * UPLOADS_EACH]
    assert {content["status"] for content in uploads} == {"processing"}
    ballots = house.ballots()

    def kill(accepted: int) -> None:
        if accepted == len(ballots) // 3:
            house.launched.kill()

    await house.cast_all(ballots, round_id, kill)
    assert not house.launched.running
    acknowledged = [ballot for ballot in ballots if ballot.accepted]
    assert len(acknowledged) < len(ballots)
    await house.restart()

    for ballot in ballots:  # what a careful client does: the same again, with the same key
        answer = await house.cast(ballot, round_id)
        assert answer is not None
        assert answer.is_success, answer.text
        vote = answer.json()
        assert ballot.accepted is None or ballot.accepted["id"] == vote["id"]
        ballot.accepted = vote
    assert len({ballot.accepted["id"] for ballot in ballots if ballot.accepted}) == len(ballots)

    async def processed() -> bool | None:
        ready = [set(await creator.ready_memes()) for creator in house.creators]
        return True if {content["id"] for content in uploads} <= set().union(*ready) else None

    await eventually(processed, 30)
    await house.mine()
    await house.settled(round_id)
    await house.everything_adds_up(ballots)


@pytest.mark.parametrize("moment", ["closing", "closed"])
async def test_killed_while_the_round_closes_or_its_rewards_are_paid(
    house: House, moment: str
) -> None:
    round_id = await house.enter()
    first, late = house.ballots(), house.ballots()
    await house.cast_all(first, round_id, lambda _: None)
    seen: list[str] = []

    async def close_and_kill() -> None:
        await house.mine()
        while moment not in seen and "settled" not in seen:
            state = (await house.get(f"/rounds/{round_id}"))["state"]
            if state != "open" and (moment == "closing" or state != "closing"):
                seen.append(state)
                break
        house.launched.kill()

    await asyncio.gather(house.cast_all(late, round_id, lambda _: None), close_and_kill())
    assert seen
    await house.restart()
    await house.settled(round_id)
    ballots = [*first, *late]
    for ballot in ballots:  # too late for new votes; those that were accepted are known
        answer = await house.cast(ballot, round_id)
        assert answer is not None
        if ballot.accepted:
            assert answer.status_code == 201
            assert answer.json()["id"] == ballot.accepted["id"]
        elif answer.is_error:
            assert answer.json()["code"] == "round_not_open"
    await house.everything_adds_up(ballots)


async def test_what_is_taken_is_said_in_one_line(house: House) -> None:
    elsewhere = Launched(house.launched.options.data)
    refused = {
        "in use": house.launched.command(),
        "in use by another running instance": elsewhere.command(),
    }

    async def started(command: list[str]) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        _, said = await asyncio.wait_for(process.communicate(), START_TIMEOUT_S)
        return process.returncode, said.decode()

    outcomes = await asyncio.gather(*(started(command) for command in refused.values()))
    for words, (code, said) in zip(refused, outcomes, strict=True):
        assert (code, said.count("\n")) == (2, 1), said
        assert said.startswith("memepool: ")
        assert words in said
    assert await house.get("/rounds/current")


async def test_ctrl_c_drains_says_so_and_leaves_nothing_behind(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    launched = house.launched
    _assert_closed_to_others(launched.options.data)
    assert launched.interrupt(DRAIN_S) == 0
    await launched.start("--players", "3", "--block-seconds", "2")

    async def lively() -> bool | None:
        lines = launched.output.splitlines()
        return True if any("votes counted" in line for line in lines) else None

    await eventually(lively, 60)
    resident_bytes = launched.process.memory_info().rss
    assert resident_bytes < RESIDENT_BYTES_MAX
    processes = [launched.process, *launched.process.children(recursive=True)]
    assert len(processes) > 2
    assert launched.interrupt(DRAIN_S) == 0
    assert launched.output.endswith(
        "Stopped. Everything is kept; the next start goes on from here.\n"
    )
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert alive == []
    for port in (launched.options.port, launched.options.chain_port):
        with pytest.raises(httpx.ConnectError):
            await house.http.get(f"http://127.0.0.1:{port}/")
    starts = ", ".join(f"{seconds:.1f}" for seconds in launched.started_in_s)
    with capsys.disabled():  # a measurement, not a promise: the machine may be busy
        sys.stderr.write(f"\n[starts: {starts} s; {resident_bytes >> 20} MiB resident]\n")


def _assert_closed_to_others(data: Path) -> None:
    for path in (data, data / "secrets.json"):
        assert path.stat().st_mode & 0o077 == 0, path
