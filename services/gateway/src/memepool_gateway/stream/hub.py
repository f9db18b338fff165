"""Fans the stream out to the clients of one process, each with a bounded queue."""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import structlog
from prometheus_client import Counter as Metric
from prometheus_client import Gauge

from memepool_common.tokens import Principal, TokenVerifier
from memepool_common.web.app import Probes
from memepool_common.web.problem import Problem
from memepool_gateway.settings import StreamSettings
from memepool_gateway.stream.models import Gap
from memepool_gateway.stream.store import (
    Entry,
    HistoryGone,
    Position,
    StreamStore,
    StreamUnavailableError,
)
from memepool_gateway.stream.translate import GAP

READ_SIZE_MAX = 500
SWEEP_S = 0.1
"""With auth's fifth of a second and our half, a session's stream is over within its second, too."""
BEAT = b""
"""Stands for a frame that keeps a quiet connection open; the client's own task words it."""
FAILURE_PAUSE_S = 1.0
log = structlog.get_logger(__name__)

CLIENTS = Gauge("memepool_gateway_stream_clients", "Open event streams")
DROPPED = Metric("memepool_gateway_stream_dropped_total", "Streams ended by us", ["reason"])


class Client:
    """One open stream.

    Attributes:
        principal: whose it is, if it has personal events.
        public: whether it has the public events.
        queue: frames that wait to be sent, with their positions.
        arrived: set when the queue is not empty.
    """

    def __init__(self, principal: Principal | None, *, public: bool, queue_max: int) -> None:
        self.principal = principal
        self.public = public
        self.queue: deque[tuple[Position, bytes]] = deque()
        self.arrived = asyncio.Event()
        self._queue_max = queue_max
        self._deadline: asyncio.Timeout | None = None

    def sees(self, entry: Entry) -> bool:
        """Whether an entry is for this client."""
        if entry.audience is None:
            return self.public
        return self.principal is not None and self.principal.user_id in entry.audience

    def put(self, position: Position, frame: bytes) -> None:
        """Queue a frame; a client that does not keep up is dropped and may resume."""
        if len(self.queue) >= self._queue_max:
            self.end("slow")
            return
        self.queue.append((position, frame))
        self.arrived.set()

    def end_by(self, deadline: asyncio.Timeout) -> None:
        """The stream runs under this timeout; `end` lets it pass."""
        self._deadline = deadline

    def end(self, reason: str) -> None:
        """End the stream now, also one that is stuck in sending."""
        if self._deadline is not None:
            DROPPED.labels(reason).inc()
            self._deadline.reschedule(asyncio.get_running_loop().time())
            self._deadline = None


class Hub:
    """The clients of this process, and the task that feeds them."""

    def __init__(
        self, store: StreamStore, settings: StreamSettings, tokens: TokenVerifier, probes: Probes
    ) -> None:
        self.store = store
        self._position: Position | None = None
        self._settings = settings
        self._tokens = tokens
        self._probes = probes
        self._clients: set[Client] = set()
        self._by_user: dict[UUID, set[Client]] = {}
        self._by_network: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Feed the clients inside the block."""
        with contextlib.suppress(StreamUnavailableError):  # then as soon as the store is there
            self._position = await self.store.latest()
        tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._sweep())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def position(self) -> Position:
        """Up to where the clients are served.

        Raises:
            Problem: 503 `stream_unavailable`: the store has never answered yet.
        """
        if self._position is None:
            detail = "The event stream's store cannot be reached. Try again."
            raise Problem(503, "stream_unavailable", detail, headers={"Retry-After": "5"})
        return self._position

    @contextlib.contextmanager
    def joined(self, client: Client, network: str) -> Iterator[None]:
        """Have the client fed inside the block. `network` is what counts as one client.

        Raises:
            Problem: 503 `too_many_streams` or `stream_unavailable`, 429 `too_many_streams_here`.
        """
        _ = self.position
        retry = {"Retry-After": "5"}
        if len(self._clients) >= self._settings.clients_max:
            detail = "All event streams are taken. Try again."
            raise Problem(503, "too_many_streams", detail, headers=retry)
        if self._by_network[network] >= self._settings.clients_per_address_max:
            detail = f"There are {self._by_network[network]} event streams from your address."
            raise Problem(429, "too_many_streams_here", detail, headers=retry)
        self._clients.add(client)
        self._by_network[network] += 1
        if client.principal is not None:
            self._by_user.setdefault(client.principal.user_id, set()).add(client)
        CLIENTS.set(len(self._clients))
        try:
            yield
        finally:
            self._leave(client, network)

    def _leave(self, client: Client, network: str) -> None:
        self._clients.discard(client)
        self._by_network[network] -= 1
        if not self._by_network[network]:
            del self._by_network[network]
        if client.principal is not None:
            own = self._by_user[client.principal.user_id]
            own.discard(client)
            if not own:
                del self._by_user[client.principal.user_id]
        CLIENTS.set(len(self._clients))

    async def _follow(self) -> None:
        while True:
            try:
                await self._follow_on()
            except StreamUnavailableError as error:  # the streams stay, and go on when it is back
                log.warning("stream_paused", error=repr(error))
                await asyncio.sleep(FAILURE_PAUSE_S)
            except Exception:
                log.exception("stream_read_failed")
                await asyncio.sleep(FAILURE_PAUSE_S)

    async def _follow_on(self) -> None:
        if self._position is None:
            self._position = await self.store.latest()
        try:
            entries = await self.store.read(
                self._position, size_max=READ_SIZE_MAX, wait_s=self._settings.heartbeat_s
            )
        except HistoryGone:
            self._position = await self.store.latest()
            self._tell_all(gap_frame(self._position))
            return
        for entry in entries:
            self._position = entry.position
            self._dispatch(entry)

    def _dispatch(self, entry: Entry) -> None:
        frame = frame_of(entry)
        if entry.audience is None:
            for client in self._clients:
                if client.public:
                    client.put(entry.position, frame)
        else:
            for user_id in entry.audience:
                for client in self._by_user.get(user_id, ()):
                    client.put(entry.position, frame)

    async def _sweep(self) -> None:
        """End what may not go on; keep quiet connections open."""
        beats_every = max(1, round(self._settings.heartbeat_s / SWEEP_S))
        turn = 0
        while True:
            await asyncio.sleep(min(SWEEP_S, self._settings.heartbeat_s))
            turn += 1
            for client in self._clients:
                if self._probes.draining:
                    client.end("draining")
                elif client.principal is not None and self._has_ended(client.principal):
                    client.end("session_ended")
            if turn % beats_every == 0:
                self._tell_all(BEAT)

    def _tell_all(self, frame: bytes) -> None:
        for client in self._clients:
            client.put(self.position, frame)

    def _has_ended(self, principal: Principal) -> bool:
        return self._tokens.state.has_ended(
            principal.session_id, principal.user_id, principal.issued_at
        )


def frame_of(entry: Entry) -> bytes:
    """An entry as server-sent event. Its JSON has no line breaks."""
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (
        str(entry.position).encode(),
        entry.name.encode(),
        entry.data,
    )


def beat_frame(position: Position) -> bytes:
    """No event: an id alone moves Last-Event-ID on, past what was not for this client."""
    return b": \nid: %s\n\n" % str(position).encode()


def gap_frame(position: Position) -> bytes:
    """The gap before `position`."""
    return frame_of(Entry(position, GAP, None, Gap().model_dump_json(by_alias=True).encode()))
