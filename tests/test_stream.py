"""`GET /events` from end to end: who is told what, from where on, and for how long."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from memepool_sandbox.players.player import Player
from tests.conftest import World

pytestmark = pytest.mark.asyncio(loop_scope="module")
DEPOSIT_SATS = 100_000
STAKE_SATS = 1_500
PERSONAL = {"vote.counted", "deposit.credited", "transfer.posted"}


@pytest.fixture(scope="module")
def mode() -> str:
    """The plain bus; the writer's own tests have the other one."""
    return "once"


@dataclass
class Listener:
    """A client of the stream, and all that it has been told."""

    told: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    last_id: str = ""
    ended: bool = False

    def of(self, name: str) -> list[dict[str, Any]]:
        """The data of all events of a name."""
        return [data for _, told, data in self.told if told == name]

    async def listen(self, lines: AsyncIterator[str]) -> None:
        """Read the stream to its end."""
        event: dict[str, str] = {}
        async for line in lines:
            name, _, value = line.partition(":")
            if line:
                event[name] = value.strip()
                continue
            self.last_id = event.get("id", self.last_id)
            if "data" in event:
                self.told.append((self.last_id, event["event"], json.loads(event["data"])))
            event = {}
        self.ended = True


@contextlib.asynccontextmanager
async def listening(
    world: World, player: Player | None = None, query: str = "", *, after: str | None = None
) -> AsyncIterator[Listener]:
    """A stream that is open inside the block; it goes on behind the event `after`."""
    headers = {"Last-Event-ID": after} if after else {}
    if player:
        headers["Authorization"] = f"Bearer {player._access_token}"
    async with world.http.stream("GET", f"/events{query}", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        listener = Listener()
        task = asyncio.create_task(listener.listen(answer.aiter_lines()))
        await world.until(lambda: _true(bool(listener.last_id)))  # the first id: it is joined
        yield listener
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _true(holds: bool) -> bool:
    return holds


async def test_an_upload_as_its_owner_is_told(world: World) -> None:
    maker = await world.player("creator")
    async with (
        listening(world) as anybody,
        listening(world, maker, "?topics=personal") as own,
    ):
        files = {"file": ("cut.jpg", b"\xff\xd8\xff" + bytes(5_000), "image/jpeg")}
        bad = (await maker.call("POST", "/content/upload", files=files))["id"]
        await world.until(lambda: _true(bool(own.of("meme.rejected"))))
        meme = await maker.upload()
        await world.until(
            lambda: _true(meme in [data["contentId"] for data in anybody.of("meme.published")])
        )
    (rejected,) = own.of("meme.rejected")
    assert (rejected["contentId"], rejected["code"]) == (bad, "malformed_image")
    assert anybody.of("meme.rejected") == []


async def test_a_round_as_its_listeners_are_told(world: World) -> None:
    maker = await world.player("creator")
    backer, stranger = await world.player(), await world.player()
    async with (
        listening(world) as anybody,
        listening(world, backer) as both,
        listening(world, backer, "?topics=personal") as own,
        listening(world, stranger, "?topics=personal") as others,
    ):
        await backer.deposit(DEPOSIT_SATS)
        round_id = await world.next_round()
        await backer.until_available(DEPOSIT_SATS, 30)
        meme = await maker.upload()
        await maker.submit(meme, round_id)
        vote = await backer.vote(round_id, meme, STAKE_SATS)
        following = await world.next_round()
        await world.settled(round_id)
        transfer = {"recipient": stranger.user_id, "amount": 5}
        await backer.call("POST", "/payments/transfer", json=transfer)

        await world.until(lambda: _true(bool(anybody.of("round.settled"))))
        await world.until(lambda: _true(bool(own.of("transfer.posted"))))
        await world.until(lambda: _true(bool(others.of("transfer.posted"))))
        await world.until(lambda: _true(both.of("transfer.posted") == own.of("transfer.posted")))

    opened = [data["roundId"] for data in anybody.of("round.opened")]
    assert opened[-2:] == [round_id, following]
    assert meme in [data["contentId"] for data in anybody.of("meme.submitted")]
    assert anybody.of("votes.tally")[-1] | {"sequence": 0} == {
        "roundId": round_id,
        "sequence": 0,
        "pot": STAKE_SATS,
        "memes": [{"contentId": meme, "stakes": STAKE_SATS, "backers": 1}],
    }
    (closed,) = [data for data in anybody.of("round.closed") if data["roundId"] == round_id]
    results = await world.get(f"/rounds/{round_id}/results")
    assert (closed["pot"], closed["fee"]) == (results["pot"], results["fee"])
    assert closed["ranking"] == results["ranking"]

    names = {name for _, name, _ in anybody.told}
    assert names.isdisjoint(PERSONAL)
    assert {name for _, name, _ in own.told} == PERSONAL
    assert [name for _, name, _ in others.told] == ["transfer.posted"]
    (counted,) = own.of("vote.counted")
    assert (counted["id"], counted["state"], counted["amount"]) == (
        vote["id"],
        "counted",
        STAKE_SATS,
    )
    assert [data["amount"] for data in own.of("deposit.credited")] == [DEPOSIT_SATS]
    everything = [told for told in both.told if told in anybody.told or told in own.told]
    assert everything == both.told
    assert len(both.told) == len(anybody.told) + len(own.told)
    await _resumed(world, backer, both)


async def _resumed(world: World, player: Player, earlier: Listener) -> None:
    """Whoever comes back with an id is told exactly what came after it."""
    middle = len(earlier.told) // 2
    last_seen, *_ = earlier.told[middle]
    missed = earlier.told[middle + 1 :]
    async with listening(world, player, after=last_seen) as again:
        await world.until(lambda: _true(len(again.told) >= len(missed)))
        assert again.told[: len(missed)] == missed
    async with listening(world, after="1-1") as lost:
        await world.until(lambda: _true(bool(lost.told)))
        assert [name for _, name, _ in lost.told] == ["gap"]


async def test_a_personal_stream_ends_with_its_session(world: World) -> None:
    leaver, stayer = await world.player(), await world.player()
    async with listening(world, leaver) as ending, listening(world, stayer) as going:
        await leaver.call("DELETE", "/auth/session")
        await world.until(lambda: _true(ending.ended), 3)
        assert not going.ended
        await world.next_round()
        await world.until(lambda: _true(bool(going.of("round.opened"))))
    token = {"Authorization": f"Bearer {leaver._access_token}"}
    again = await world.http.get("/events", headers=token)
    assert (again.status_code, again.json()["code"]) == (401, "session_ended")


async def test_personal_events_need_a_token(world: World) -> None:
    answer = await world.http.get("/events", params={"topics": "personal"})
    assert (answer.status_code, answer.json()["code"]) == (401, "token_required")
