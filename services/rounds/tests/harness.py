"""A chain that tests mine, a payments that tests answer for, and rounds between them."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text

from memepool_chain.header import Header
from memepool_chain.headerstore import Checkpoint
from memepool_chain.network import REGTEST
from memepool_chain.testing import genesis, grow
from memepool_chain.whatsonchain import ChainInfo, NotFound, SourceHeader, Unavailable
from memepool_common.db import Database, Session
from memepool_common.events import Event
from memepool_common.ids import uuid7
from memepool_rounds.consumers import SUBSCRIPTIONS
from memepool_rounds.domain.rounds import RoundState
from memepool_rounds.events import EVENTS
from memepool_rounds.store import results, rounds, votes
from memepool_rounds.store.results import StoredResult
from memepool_rounds.store.rounds import StoredRound
from memepool_rounds.store.votes import PlaceVote, StoredVote
from memepool_rounds.use_cases.closing import look_at_closing_rounds
from memepool_rounds.use_cases.entering import Entry, Limits, enter_meme
from memepool_rounds.use_cases.following import Follower, RoundRules
from memepool_rounds.use_cases.voting import place_votes

START = datetime(2026, 1, 1, tzinfo=UTC)
HANDLERS = {name: f for each in SUBSCRIPTIONS for name, f in each.handlers.items()}
VOTES_MAX = 1_000_000


class TestClock:
    """Stands still until it is moved."""

    __test__ = False

    def __init__(self) -> None:
        self.instant = START

    def now(self) -> datetime:
        return self.instant

    def pass_s(self, seconds: float) -> None:
        self.instant += timedelta(seconds=seconds)


class FakeSource:
    """What WhatsOnChain would say of a chain that the test mines."""

    def __init__(self) -> None:
        first = genesis()
        self.heights = {first.hash: 0}
        self.headers = {first.hash: first}
        self.best = first
        self.down = False
        self.asked = 0

    @property
    def height(self) -> int:
        return self.heights[self.best.hash]

    def mine(self, count: int = 1, *, on: Header | None = None, name: str = "11") -> list[Header]:
        """Mine on the best block, or on another; the last one mined is the source's best."""
        parent = on or self.best
        branch = grow(parent, count, name=name)
        for header in branch:
            self.heights[header.hash] = self.heights[header.prev_hash] + 1
            self.headers[header.hash] = header
        self.best = branch[-1]
        return branch

    def at(self, height: int) -> Header:
        """The best branch's header at a height."""
        header = self.best
        while self.heights[header.hash] > height:
            header = self.headers[header.prev_hash]
        return header

    async def chain_info(self) -> ChainInfo:
        self._answer()
        return ChainInfo("main", self.height, self.best.hash)

    async def header(self, hash_or_height: str | int) -> SourceHeader:
        self._answer()
        if isinstance(hash_or_height, int):
            return SourceHeader(self.at(hash_or_height), hash_or_height)
        if hash_or_height not in self.headers:
            raise NotFound(hash_or_height)
        return SourceHeader(self.headers[hash_or_height], self.heights[hash_or_height])

    async def headers_latest(
        self, *, limit: int = 10, start_hash: str | None = None
    ) -> list[SourceHeader]:
        found = [await self.header(start_hash or self.best.hash)]
        while len(found) < limit and found[-1].height > 0:
            found.append(await self.header(found[-1].header.prev_hash))
        return found

    def _answer(self) -> None:
        self.asked += 1
        if self.down:
            raise Unavailable("the source is down")


@dataclass
class World:
    """Rounds on a real database. `minimum_age` is a minute, the closing time-out 30 s."""

    database: Database
    clock: TestClock = field(default_factory=TestClock)
    source: FakeSource = field(default_factory=FakeSource)
    limits: Limits = field(default_factory=lambda: Limits(100, 1_000))

    def __post_init__(self) -> None:
        self.follower = self.new_follower()

    def new_follower(self) -> Follower:
        """Another process's follower."""

        async def checkpoint() -> Checkpoint:
            return Checkpoint(90, tuple(self.source.at(height) for height in range(80, 91)))

        rules = RoundRules(timedelta(minutes=1), self.limits.submissions_max, final_depth=6)
        return Follower(self.database, self.source, REGTEST, checkpoint, rules, self.clock)

    async def block(self, count: int = 1) -> int:
        """A minute and more passes, blocks are mined and seen in one poll; the tip's height."""
        self.clock.pass_s(61)
        self.source.mine(count)
        await self.follower.poll()
        return self.source.height

    async def look(self, *, consuming: bool = True) -> None:
        """The tally's scheduler looks at closing rounds."""
        await look_at_closing_rounds(
            self.database,
            REGTEST.name,
            now=self.clock.now(),
            timeout_after=timedelta(seconds=30),
            consuming=consuming,
        )

    async def tell(self, name: str, *data: Any, version: int = 1) -> None:
        """Events of one type arrive together, each with an id of its own."""
        events = [
            Event(
                id=uuid7(),
                type=name,
                source="/test",
                subject="test",
                time=self.clock.now(),
                version=version,
                audience="internal",
                data=orjson.loads(orjson.dumps(each)),
                traceparent=None,
            )
            for each in data
        ]
        async with self.database.transaction() as session:
            await HANDLERS[name](session, events)

    async def publish(
        self, content_id: UUID, creator_id: UUID, *, version: int = 1, revision: int = 1
    ) -> None:
        """Content tells of a meme."""
        data = {
            "contentId": content_id,
            "creatorId": creator_id,
            "version": version,
            "sha256": hashlib.sha256(b"%d" % version).hexdigest(),
            "somethingNew": [1],
        }
        await self.tell("memepool.content.meme.published.v1", data, version=revision)

    async def remove(self, content_id: UUID, creator_id: UUID, *, revision: int = 9) -> None:
        """Content tells that a meme is gone."""
        data = {"contentId": content_id, "creatorId": creator_id}
        await self.tell("memepool.content.meme.removed.v1", data, version=revision)

    async def suspend(self, user_id: UUID, *, suspended: bool = True, version: int = 2) -> None:
        """Auth tells of a user."""
        data = {"id": user_id, "suspended": suspended}
        await self.tell("memepool.auth.user.updated.v1", data, version=version)

    async def enter(self, content_id: UUID | None = None, creator_id: UUID | None = None) -> Entry:
        """A creator publishes a meme and enters it into the open round."""
        content_id, creator_id = content_id or uuid7(), creator_id or uuid7()
        await self.publish(content_id, creator_id)
        async with self.database.transaction() as session:
            return await self.submit(session, content_id, creator_id)

    async def submit(self, session: Session, content_id: UUID, creator_id: UUID) -> Entry:
        """A creator enters a meme into the open round."""
        return await enter_meme(
            session,
            round_id=None,
            content_id=content_id,
            creator_id=creator_id,
            limits=self.limits,
            now=self.clock.now(),
        )

    async def place(
        self,
        content_id: UUID,
        amount: int | None = 100,
        *,
        voter_id: UUID | None = None,
        round_id: int | None = None,
        key: str | None = None,
    ) -> StoredVote:
        """One vote; what refuses it is raised."""
        (vote,) = await self.place_all([wish(content_id, amount, voter_id, round_id, key)])
        if isinstance(vote, Exception):
            raise vote
        return vote

    async def place_all(
        self, wishes: Sequence[PlaceVote], *, votes_max: int = VOTES_MAX
    ) -> list[StoredVote | Exception]:
        """One batch."""
        async with self.database.transaction() as session:
            return await place_votes(session, wishes, votes_max=votes_max, now=self.clock.now())

    async def hold(self, *placed: StoredVote) -> None:
        """Payments holds the stakes of these votes."""
        ids = [vote.id for vote in placed]
        data = {"roundId": str(placed[0].round_id), "voteId": ids}
        await self.tell("memepool.payments.stake.held.v1", data)

    async def refuse(self, *placed: StoredVote, reason: str = "insufficient_funds") -> None:
        """Payments holds nothing for these votes."""
        data = {
            "roundId": str(placed[0].round_id),
            "voteId": [vote.id for vote in placed],
            "reason": [reason for _ in placed],
        }
        await self.tell("memepool.payments.stake.rejected.v1", data)

    async def distribute(self, round_id: int, **changes: int) -> None:
        """Payments has distributed a round as RoundClosed said."""
        (closed,) = [
            each for each in await self.events("round.closed") if each["roundId"] == str(round_id)
        ]
        sums = {
            "pot": closed["pot"],
            "fee": closed["fee"],
            "rewards": sum(line["amount"] for line in closed["rewards"]),
            "carryOut": closed["carryOut"],
        }
        data = {"roundId": str(round_id), **sums, **changes, "distributedAt": self.clock.now()}
        await self.tell("memepool.payments.rewards.distributed.v1", data)

    async def events(self, name: str) -> list[dict[str, Any]]:
        """The data of all events of a kind (`round.closed`), in the order of the outbox; exactly
        what their model would write."""
        query = text("select payload from outbox where event_type = :type order by seq")
        event_type = f"memepool.rounds.{name}.v1"
        async with self.database.read() as session:
            found = (await session.execute(query, {"type": event_type})).scalars()
            told = [orjson.loads(bytes(payload)) for payload in found]
        for data in told:
            assert EVENTS[event_type].model_validate(data).model_dump(mode="json") == data
        return told

    async def round(self, round_id: int) -> StoredRound:
        """A round as it stands."""
        async with self.database.read() as session:
            found = await rounds.by_id(session, round_id)
        assert found is not None
        return found

    async def vote(self, vote: StoredVote) -> StoredVote:
        """The vote as it stands now."""
        async with self.database.read() as session:
            found = await votes.one(session, vote.round_id, vote.id)
        assert found is not None
        return found

    async def rows(self, query: str) -> list[Any]:
        """What a query finds."""
        async with self.database.read() as session:
            return list((await session.execute(text(query))).all())


def wish(
    content_id: UUID,
    amount: int | None = 100,
    voter_id: UUID | None = None,
    round_id: int | None = None,
    key: str | None = None,
) -> PlaceVote:
    """A vote that somebody asks for; the hash stands for the request as sent."""
    sent = f"{round_id} {content_id} {amount}".encode()
    return PlaceVote(
        id=uuid7(),
        round_id=round_id,
        content_id=content_id,
        voter_id=voter_id or uuid7(),
        amount=amount,
        key=key,
        request_hash=hashlib.sha256(sent).digest(),
    )


async def blocked(world: World) -> None:
    """Wait until some session waits for a lock."""
    async with asyncio.timeout(10):
        while not await world.rows(
            "select from pg_stat_activity where datname = current_database()"
            " and wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0.01)


async def result_of(world: World, round_id: int) -> StoredResult:
    async with world.database.read() as session:
        found = await results.of_round(session, round_id)
    assert found is not None
    return found


async def state_of(world: World, round_id: int) -> RoundState:
    return (await world.round(round_id)).state


async def placed(world: World, meme: UUID, amounts: Sequence[int]) -> list[StoredVote]:
    outcomes = await world.place_all([wish(meme, amount) for amount in amounts])
    return [each for each in outcomes if isinstance(each, StoredVote)]
