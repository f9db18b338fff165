"""What the writer makes of the services' events."""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Self
from uuid import UUID, uuid4

import orjson
import pytest
from prometheus_client import REGISTRY
from pydantic import BaseModel, SecretStr

from memepool_common.events import Delivery, Inlet, Message
from memepool_common.events.bus import Topology
from memepool_common.events.envelope import to_message
from memepool_common.ids import uuid7
from memepool_common.settings import AuthnSettings
from memepool_common.testing.waiting import until
from memepool_common.web.app import Probes
from memepool_gateway.settings import RedisSettings, Settings, StreamSettings, UpstreamSettings
from memepool_gateway.stream import MemoryStream
from memepool_gateway.stream.store import Draft, Entry, Position, StreamUnavailableError
from memepool_gateway.stream.writer import QUEUE
from memepool_gateway.worker import run, topology

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SERVICES = ("auth", "content", "rounds", "payments")
COUNTED = "memepool.rounds.vote.counted.v1"


class FakeBus:
    """One queue in memory; what is not settled when an inlet closes comes again."""

    def __init__(self) -> None:
        self.waiting: deque[Message] = deque()
        self.acknowledged: list[UUID] = []
        self.dead: list[tuple[UUID, str]] = []
        self.fail_next_ack = False
        self.sender: str | None = None

    async def declare(self, topology: Topology) -> None:
        raise NotImplementedError

    async def publish(self, messages: Sequence[Message]) -> Sequence[Exception | None]:
        self.waiting.extend(messages)
        return [None] * len(messages)

    @contextlib.asynccontextmanager
    async def subscribe(self, queue: str) -> AsyncIterator[Inlet]:
        assert queue == QUEUE
        inlet = FakeInlet(self)
        try:
            yield inlet
        finally:
            self.waiting.extendleft(reversed(inlet.unsettled))


class FakeInlet:
    def __init__(self, bus: FakeBus) -> None:
        self._bus = bus
        self.unsettled: list[Message] = []

    async def receive(self, size_max: int, timeout_s: float) -> Sequence[Delivery]:
        with contextlib.suppress(TimeoutError):
            await until(lambda: bool(self._bus.waiting), timeout_s=timeout_s)
        taken = [self._bus.waiting.popleft() for _ in range(min(size_max, len(self._bus.waiting)))]
        self.unsettled += taken
        return [Delivery(message, 0, None, self._bus.sender) for message in taken]

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        if self._bus.fail_next_ack:
            self._bus.fail_next_ack = False
            raise ConnectionResetError
        for delivery in deliveries:
            self.unsettled.remove(delivery.message)
            self._bus.acknowledged.append(delivery.message.id)

    async def retry(self, delivery: Delivery, delay_s: float) -> None:
        raise NotImplementedError

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        self.unsettled.remove(delivery.message)
        self._bus.dead.append((delivery.message.id, reason))


def message(event_type: str, data: Any, audience: str) -> Message:
    payload = data.model_dump_json(by_alias=True) if isinstance(data, BaseModel) else None
    row = SimpleNamespace(
        event_id=uuid7(),
        event_type=event_type,
        subject="1",
        occurred_at=NOW,
        audience=audience,
        version=1,
        traceparent=None,
        payload=(payload or orjson.dumps(data).decode()).encode(),
    )
    return to_message(row, "/rounds")


def counted(
    *votes: tuple[UUID, UUID, int], sequence: int, stakes: int, round_id: str = "1"
) -> Message:
    """Votes (voter, content, amount); the tally tells `stakes` for the first one's meme."""
    data = {
        "roundId": round_id,
        "voteId": [str(uuid4()) for _ in votes],
        "voterId": [str(voter) for voter, _, _ in votes],
        "contentId": [str(content) for _, content, _ in votes],
        "amount": [amount for _, _, amount in votes],
        "sequence": list(range(sequence, sequence + len(votes))),
        "tallies": {"contentId": [str(votes[0][1])], "stakes": [stakes], "backers": [1]},
        "pot": stakes,
    }
    return message(COUNTED, data, "rows:voterId")


class Running:
    """A writer at work on a fake bus."""

    def __init__(self, tally_interval_s: float = 0.05, redis_url: str | None = None) -> None:
        self.bus = FakeBus()
        self.settings = Settings(
            upstreams=UpstreamSettings(**dict.fromkeys(SERVICES, "http://127.0.0.1:9")),
            authn=AuthnSettings(internal_url="http://127.0.0.1:9"),
            stream=StreamSettings(tally_interval_s=tally_interval_s),
            redis=RedisSettings(url=SecretStr(redis_url)) if redis_url else None,
        )
        self.store = MemoryStream(self.settings.stream)
        self.stopping = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.start = await self.store.latest()
        work = run(self.settings, self.bus, Probes(), self.stopping, self.store)
        self.task = asyncio.create_task(work)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stopping.set()
        async with asyncio.timeout(60):
            await self.task

    async def entries(self, name: str | None = None) -> list[Entry]:
        entries = await self.store.read(self.start, size_max=10_000)
        return [entry for entry in entries if name in (None, entry.name)]

    async def settled(self, count: int) -> None:
        await until(lambda: len(self.bus.acknowledged) + len(self.bus.dead) >= count)


async def test_votes_become_a_public_tally_and_each_voters_own_outcomes() -> None:
    ann, bob, meme = uuid4(), uuid4(), uuid4()
    async with Running() as running:
        votes = [(ann, meme, 10), (bob, meme, 20)]
        await running.bus.publish([counted(*votes, sequence=1, stakes=30)])
        await running.settled(1)
        own = await running.entries("vote.counted")
        (tally,) = await running.entries("votes.tally")
    assert [entry.audience for entry in own] == [frozenset({ann}), frozenset({bob})]
    outcome = json.loads(own[1].data)
    assert set(outcome) == {"id", "roundId", "contentId", "amount", "state", "reason"}
    assert (outcome["amount"], outcome["state"], outcome["reason"]) == (20, "counted", None)
    assert tally.audience is None
    assert json.loads(tally.data) == {
        "roundId": "1",
        "sequence": 2,
        "pot": 30,
        "memes": [{"contentId": str(meme), "stakes": 30, "backers": 1}],
    }


async def test_many_batches_are_few_tallies_and_the_last_word_is_right() -> None:
    meme = uuid4()
    batches = [counted((uuid4(), meme, 1), sequence=n, stakes=n) for n in range(1, 101)]
    async with Running(tally_interval_s=0.25) as running:
        began_s = asyncio.get_running_loop().time()
        for batch in batches:
            await running.bus.publish([batch])
            await asyncio.sleep(0.005)
        await running.settled(100)
        took_s = asyncio.get_running_loop().time() - began_s
        tallies = await running.entries("votes.tally")
    assert 1 <= len(tallies) <= took_s / 0.25 + 2
    assert json.loads(tallies[-1].data)["memes"][0]["stakes"] == 100


async def test_late_and_repeated_batches_never_turn_a_tally_back() -> None:
    ann, meme = uuid4(), uuid4()
    old = counted((ann, meme, 1), sequence=1, stakes=1)
    new = counted((ann, meme, 4), sequence=5, stakes=5)
    async with Running() as running:
        await running.bus.publish([new])
        await running.settled(1)
        await running.bus.publish([old, old, new])
        await running.settled(4)
        tallies = await running.entries("votes.tally")
        own = await running.entries("vote.counted")
    assert [json.loads(tally.data)["pot"] for tally in tallies] == [5]
    assert len(own) == 2  # each vote once


async def test_votes_that_are_counted_after_later_ones_are_told_as_well() -> None:
    """Payments answered the later votes first: they were counted without the earlier ones."""
    ann, meme = uuid4(), uuid4()
    async with Running() as running:
        await running.bus.publish([counted((ann, meme, 4), sequence=5, stakes=4)])
        await running.settled(1)
        await running.bus.publish([counted((ann, meme, 1), sequence=1, stakes=5)])
        await running.settled(2)
        tallies = [json.loads(each.data) for each in await running.entries("votes.tally")]
    assert [(each["sequence"], each["pot"]) for each in tallies] == [(5, 4), (5, 5)]
    assert tallies[-1]["memes"][0]["stakes"] == 5


async def test_nothing_is_acknowledged_before_it_is_told() -> None:
    async with Running(tally_interval_s=60.0) as running:
        first = counted((uuid4(), uuid4(), 1), sequence=1, stakes=1)
        second = counted((uuid4(), uuid4(), 1), sequence=2, stakes=2)
        await running.bus.publish([first])
        await running.settled(1)
        await running.bus.publish([second])
        await until(lambda: not running.bus.waiting)
        assert running.bus.acknowledged == [first.id]
        assert len(await running.entries("votes.tally")) == 1
    assert running.bus.acknowledged == [first.id, second.id]  # stopping told the rest
    assert len(await running.entries("votes.tally")) == 2


async def test_what_was_told_is_not_told_again_after_a_lost_acknowledgement() -> None:
    async with Running() as running:
        running.bus.fail_next_ack = True
        vote = counted((uuid4(), uuid4(), 1), sequence=1, stakes=1)
        await running.bus.publish([vote])
        await running.settled(1)
        names = [entry.name for entry in await running.entries()]
    assert names == ["vote.counted", "votes.tally"]


async def test_a_tally_that_could_not_be_told_is_told_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("memepool_gateway.stream.writer.IDLE_WAIT_S", 0.05)
    running = Running()
    append, failures = running.store.append, ["once"]

    async def failing(drafts: Sequence[Draft], event_id: UUID | None = None) -> None:
        if failures and any(draft.name == "votes.tally" for draft in drafts):
            failures.clear()
            raise StreamUnavailableError
        await append(drafts, event_id)

    monkeypatch.setattr(running.store, "append", failing)
    async with running:
        await running.bus.publish([counted((uuid4(), uuid4(), 1), sequence=1, stakes=1)])
        await running.settled(1)
        names = [entry.name for entry in await running.entries()]
    assert not failures
    assert names == ["vote.counted", "votes.tally"]


async def test_a_writer_that_waits_for_what_is_away_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("memepool_gateway.stream.writer.IDLE_WAIT_S", 0.05)
    running, away = Running(), True
    hold = running.store.hold

    async def hold_unless_away() -> bool:
        if away:
            raise StreamUnavailableError
        return await hold()

    def paused() -> float | None:
        return REGISTRY.get_sample_value("memepool_consumer_paused", {"queue": QUEUE})

    monkeypatch.setattr(running.store, "hold", hold_unless_away)
    async with running:
        await until(lambda: paused() == 1)
        away = False
        await running.bus.publish([counted((uuid4(), uuid4(), 1), sequence=1, stakes=1)])
        await running.settled(1)
    assert paused() == 0


async def test_a_closed_round_has_no_further_tallies() -> None:
    closed = {
        "roundId": "1",
        "closingBlockHeight": 2,
        "closingBlockHash": "00",
        "pot": 5,
        "carryIn": 0,
        "fee": 0,
        "carryOut": 5,
        "ranking": [],
        "rewards": [{"secret": 1}],
        "closedAt": "2026-01-01T00:00:00Z",
    }
    async with Running() as running:
        vote = counted((uuid4(), uuid4(), 1), sequence=1, stakes=1)
        await running.bus.publish([message("memepool.rounds.round.closed.v1", closed, "public")])
        await running.bus.publish([vote])
        await running.settled(2)
        names = [entry.name for entry in await running.entries()]
        (told,) = await running.entries("round.closed")
    assert names == ["round.closed", "vote.counted"]
    assert "rewards" not in json.loads(told.data)


async def test_the_audience_decides() -> None:
    ann, bob = uuid4(), uuid4()
    transfer = {
        "transactionId": "t",
        "sender": str(ann),
        "recipient": str(bob),
        "amount": 5,
        "memo": None,
        "postedAt": "2026-01-01T00:00:00Z",
    }
    block = {"height": 1, "hash": "aa", "header": "ff", "tipVersion": 1}
    name = "memepool.payments.transfer.posted.v1"
    async with Running() as running:
        await running.bus.publish(
            [
                message(name, transfer, f"{ann} {bob}"),
                message("memepool.rounds.block.connected.v1", block, "internal"),
                message("memepool.rounds.block.connected.v1", block, "public"),
            ]
        )
        await running.settled(3)
        first, second = await running.entries()
    assert first.audience == frozenset({ann, bob})
    assert (second.audience, json.loads(second.data)) == (None, {"height": 1, "hash": "aa"})


@pytest.mark.parametrize(
    ("data", "audience"),
    [
        ({"roundId": "1"}, "rows:voterId"),
        ({"voterId": ["x"], "voteId": ["y"]}, "rows:voterId"),
        ({"voterId": [str(uuid4())], "voteId": []}, "rows:voterId"),
        ({"voterId": [str(uuid4())]}, "public"),
        ({}, "somebody"),
    ],
)
async def test_poison_is_put_aside_alone(data: dict[str, Any], audience: str) -> None:
    async with Running() as running:
        good = counted((uuid4(), uuid4(), 1), sequence=1, stakes=1)
        bad = message(COUNTED, data, audience)
        broken = Message(uuid7(), "rounds.vote.counted.v1", {}, b"")
        await running.bus.publish([bad, broken, good])
        await running.settled(3)
        assert [dead for dead, _ in running.bus.dead] == [bad.id, broken.id]
        assert running.bus.acknowledged == [good.id]
        assert len(await running.entries("vote.counted")) == 1


async def test_nobody_speaks_for_another_service() -> None:
    async with Running() as running:
        running.bus.sender = "memepool-content"
        forged = counted((uuid4(), uuid4(), 1), sequence=1, stakes=1)
        await running.bus.publish([forged])
        await running.settled(1)
        assert [dead for dead, _ in running.bus.dead] == [forged.id]
        assert await running.entries() == []


def test_the_queue_is_bound_to_what_is_told() -> None:
    (keys,) = topology().values()
    assert "rounds.vote.counted.v1" in keys
    assert "rounds.vote.placed.v1" not in keys
    assert not [key for key in keys if key.startswith("auth.")]


def test_positions_are_read_as_they_are_written() -> None:
    assert Position.parse(str(Position(12, 34))) == Position(12, 34)
    for text in ("", "1", "1-", "-1", "1-2-3", "1-x", "1 -2", "+1-2", "1-2\n"):
        with pytest.raises(ValueError, match="position"):
            Position.parse(text)
