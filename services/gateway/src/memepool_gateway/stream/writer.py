"""The one writer of the stream: consumes a durable queue and appends what clients are told.

The gateway has no database, hence no inbox: the stream knows the events that it holds, and an event
is acknowledged once all that it says has been appended. Of several workers one writes at a time, or
each would tell tallies of a part of the votes.
"""

import asyncio
import time
from collections.abc import Sequence

import structlog

from memepool_common.events import Bus, Delivery, Event, Inlet, NotAnEventError
from memepool_common.events.envelope import TYPE_PREFIX, from_message, require_sender
from memepool_common.events.errors import is_infrastructure
from memepool_common.pausing import pause
from memepool_common.telemetry import CONSUMED, CONSUMER_PAUSED, TASK_FAILURES, consumer_span
from memepool_gateway.stream.store import Draft, StreamStore
from memepool_gateway.stream.tallies import TallyFold
from memepool_gateway.stream.translate import (
    MODELS,
    ROUND_CLOSED,
    TALLY,
    VOTE_COUNTED,
    CountedVotes,
    draft,
    drafts_of,
)

QUEUE = "gateway.stream"
BATCH_MAX = 256
IDLE_WAIT_S = 1.0
log = structlog.get_logger(__name__)


def routing_keys() -> list[str]:
    """The bindings of the queue."""
    return sorted(event_type.removeprefix(TYPE_PREFIX) for event_type in MODELS)


class StreamWriter:
    """Moves events from the queue to the store."""

    def __init__(self, store: StreamStore, *, tally_interval_s: float) -> None:
        self._store = store
        self._tally_interval_s = tally_interval_s
        self._fold = TallyFold()
        self._told_s = 0.0

    async def run(self, bus: Bus, stopping: asyncio.Event) -> None:
        """Consume until `stopping` is set; then tell what is still folded."""
        paused = CONSUMER_PAUSED.labels(QUEUE)
        while not stopping.is_set():
            try:
                if await self._store.hold():
                    async with bus.subscribe(QUEUE) as inlet:
                        paused.set(0)
                        await self._consume(inlet, stopping)
                else:
                    paused.set(0)
                    self._fold = TallyFold()  # where rounds stand is for the other one to tell
                    await pause(stopping, IDLE_WAIT_S)
            except Exception as error:
                if is_infrastructure(error):
                    paused.set(1)
                    log.warning("consumer_paused", queue=QUEUE, error=repr(error))
                else:
                    TASK_FAILURES.labels(QUEUE).inc()
                    log.exception("consumer_failed", queue=QUEUE)
                await pause(stopping, IDLE_WAIT_S)

    async def _consume(self, inlet: Inlet, stopping: asyncio.Event) -> None:
        held: list[Delivery] = []  # what they say of the tally is not out yet
        while not stopping.is_set() and await self._store.hold():
            wait_s = self._tally_interval_s if self._fold.pending else IDLE_WAIT_S
            received = await inlet.receive(BATCH_MAX, min(wait_s, IDLE_WAIT_S))
            held += await self._take_in(inlet, received)
            held = await self._tell_tallies(inlet, held, now_s=time.monotonic())
        await self._tell_tallies(inlet, held, now_s=self._told_s + self._tally_interval_s)

    async def _take_in(self, inlet: Inlet, received: Sequence[Delivery]) -> list[Delivery]:
        """Append what is told at once; fold the rest. Gives what was understood."""
        understood: list[Delivery] = []
        for delivery in received:
            try:
                event = from_message(delivery.message)
                require_sender(event, delivery.sender)
                drafts = self._understand(event)
            except (NotAnEventError, ValueError) as error:
                CONSUMED.labels(QUEUE, "dead_lettered").inc()
                log.exception("event_dead_lettered", queue=QUEUE, event_id=str(delivery.message.id))
                await inlet.dead_letter(delivery, repr(error)[:500])
                continue
            with consumer_span(QUEUE, [event.traceparent]):
                await self._store.append(drafts, event.id)
            understood.append(delivery)
        return understood

    def _understand(self, event: Event) -> list[Draft]:
        drafts = drafts_of(event)
        if event.type == VOTE_COUNTED:
            self._fold.add(CountedVotes.model_validate(event.data))
        elif event.type == ROUND_CLOSED:
            self._fold.close(str(event.data["roundId"]))
        return drafts

    async def _tell_tallies(
        self, inlet: Inlet, held: list[Delivery], *, now_s: float
    ) -> list[Delivery]:
        """Append the tallies if that is due; acknowledge what is told. Gives what is not."""
        if self._fold.pending:
            if now_s - self._told_s < self._tally_interval_s:
                return held
            await self._store.append([draft(TALLY, None, tally) for tally in self._fold.tallies()])
            self._fold.told()
            self._told_s = now_s
        if held:
            await inlet.ack(held)
            CONSUMED.labels(QUEUE, "done").inc(len(held))
        return []
