"""Voters over HTTP, in a process of their own: closed loop, or arrivals at a rate.

Reads an `Order` as JSON on standard input; prints `started`, and at the end a `Report` as JSON.
"""

import asyncio
import random
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson
import psycopg
import uvloop

HOT_SHARE = 0.2
"""Of all votes go to the first meme."""
POOR_SHARE = 0.01
"""Of all votes are by voters without money: payments refuses them."""
REPLAY_SHARE = 0.01
"""Of all requests are sent again after their answer."""
BACKLOG_MAX = 2_000
WATCH_INTERVAL_S = 0.02
RETRY_S = 0.05
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")


@dataclass(frozen=True)
class Order:
    """What to do. Without a rate each client votes as soon as its last vote is answered, unless too
    many accepted votes are not counted yet: so the rate is the whole saga's."""

    port: int
    conninfo: str
    memes: Sequence[str]
    tokens: Sequence[str]
    poor: Sequence[str]
    clients: int
    seconds: float
    rate: float | None


@dataclass
class Report:
    """What was answered. `votes`: id, when it was to be sent, when answered; seconds since 1970."""

    votes: list[tuple[str, float, float]] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    repeated: int = 0
    wrong: list[str] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """One request at a time on one connection."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answered: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    async def ask(self, port: int, request: bytes) -> tuple[int, bytes]:
        """Status and body; ConnectionError if the server goes away meanwhile."""
        loop = asyncio.get_running_loop()
        if self._transport is None or self._transport.is_closing():
            await loop.create_connection(lambda: self, "127.0.0.1", port)
        assert self._transport is not None
        self._buffer = b""
        self._answered = loop.create_future()
        self._transport.write(request)
        return await self._answered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or self._answered is None or self._answered.done():
            return
        length = _LENGTH.search(head)
        if length and len(body) >= int(length.group(1)):
            self._answered.set_result((int(head[9:12]), body))

    def connection_lost(self, _error: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionResetError("the server went away"))


class Crowd:
    """All voters."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.report = Report()
        self.funded = 0
        self.counted = 0
        self.number = 0
        self.random = random.Random(1)

    def request(self) -> tuple[bytes, bool]:
        """The next vote, and whether its voter has money. Everyone gives one satoshi."""
        self.number += 1
        order, rng = self.order, self.random
        meme = order.memes[0] if rng.random() < HOT_SHARE else rng.choice(order.memes)
        poor = rng.random() < POOR_SHARE
        token = rng.choice(order.poor if poor else order.tokens)
        body = b'{"contentId":"%s","amount":1}' % meme.encode()
        head = (
            "POST /rounds/current/vote HTTP/1.1\r\nHost: bench\r\n"
            "Content-Type: application/json\r\n"
            f"Authorization: Bearer {token}\r\nIdempotency-Key: k{self.number}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body, not poor

    async def vote(self, connection: Connection, due_s: float) -> None:
        """Place one vote, asking again with the same key for as long as there is no answer."""
        request, funded = self.request()
        vote_id = await self._ask(connection, request)
        self.report.votes.append((vote_id, due_s, time.time()))
        self.funded += funded
        if self.random.random() < REPLAY_SHARE:
            self.report.repeated += 1
            if await self._ask(connection, request) != vote_id:
                self.report.wrong.append(f"a repeated request was not answered with {vote_id}")

    async def _ask(self, connection: Connection, request: bytes) -> str:
        while True:
            try:
                status, body = await connection.ask(self.order.port, request)
            except OSError as error:
                self._note(type(error).__name__)
            else:
                if status in (201, 202):
                    return str(orjson.loads(body)["id"])
                self._note(f"{status} {orjson.loads(body)['code']}")
                if status < 500:
                    raise RuntimeError(body.decode())
            await asyncio.sleep(RETRY_S)

    def _note(self, refusal: str) -> None:
        self.report.refused[refusal] = self.report.refused.get(refusal, 0) + 1

    async def closed_loop(self, until_s: float) -> None:
        """One client: a vote after the other."""
        connection = Connection()
        while time.time() < until_s:
            if self.funded - self.counted > BACKLOG_MAX:
                await asyncio.sleep(0.005)
                continue
            await self.vote(connection, time.time())

    async def open_loop(self, until_s: float, rate: float) -> None:
        """Arrivals at random times, whatever has become of those before."""
        free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
        for _ in range(self.order.clients):
            free.put_nowait(Connection())

        async def vote(due_s: float) -> None:
            connection = await free.get()
            await self.vote(connection, due_s)
            free.put_nowait(connection)

        due_s = time.time()
        async with asyncio.TaskGroup() as group:
            while due_s < until_s:
                due_s += self.random.expovariate(rate)
                await asyncio.sleep(due_s - time.time())
                group.create_task(vote(due_s))

    async def watch(self) -> None:
        """Keep `counted` up to date."""
        query = "select coalesce(sum(stakes), 0)::bigint from submission"
        connection = await psycopg.AsyncConnection.connect(self.order.conninfo, autocommit=True)
        async with connection:
            while True:
                row = await (await connection.execute(query)).fetchone()
                self.counted = int(row[0]) if row else 0
                await asyncio.sleep(WATCH_INTERVAL_S)

    async def run(self) -> Report:
        """All of it."""
        sys.stdout.write("started\n")
        sys.stdout.flush()
        until_s = time.time() + self.order.seconds
        if self.order.rate is not None:
            await self.open_loop(until_s, self.order.rate)
            return self.report
        watching = asyncio.create_task(self.watch())
        await asyncio.gather(*(self.closed_loop(until_s) for _ in range(self.order.clients)))
        watching.cancel()
        return self.report


def main() -> None:
    """Read, vote, report."""
    order: dict[str, Any] = orjson.loads(sys.stdin.buffer.readline())
    report = uvloop.run(Crowd(Order(**order)).run())
    sys.stdout.buffer.write(orjson.dumps(asdict(report)) + b"\n")


if __name__ == "__main__":
    main()
