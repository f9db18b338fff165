"""The port to the message broker. Adapters: `rabbitmq`, and the sandbox's for one process."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

Topology = Mapping[str, Sequence[str]]
"""Every durable queue with the routing keys bound to it."""

UNROUTED_QUEUE = "unrouted"
"""The catch-all: what no queue is bound to ends here, so that nothing is dropped unseen."""


class BusUnavailableError(ConnectionError):
    """The broker, or the queue asked for, is away; the same work may succeed later."""


class InletLostError(BusUnavailableError):
    """This inlet will never work again, and its deliveries are back in the queue."""


@dataclass(frozen=True, slots=True)
class Message:
    """An event as bytes: CloudEvents 1.0 binary mode, attributes in `ce-` headers."""

    id: UUID
    routing_key: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message handed to a consumer, with how often that was tried before.

    `sender` is the broker's user who published it, as the broker verified; empty if it was not
    told, None on a bus without users.
    """

    message: Message
    attempts: int
    tag: Any = field(compare=False)
    sender: str | None = None


class Inlet(Protocol):
    """One consumer's end of a queue. Unsettled deliveries return to the queue when it closes.

    Every method raises `InletLostError` once the inlet is lost.
    """

    async def receive(self, size_max: int, timeout_s: float) -> Sequence[Delivery]:
        """Up to `size_max` deliveries as soon as there is one; none after `timeout_s`."""
        ...

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """They are done."""
        ...

    async def retry(self, delivery: Delivery, delay_s: float) -> None:
        """Deliver it again, not before `delay_s` seconds, with one more attempt counted."""
        ...

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Put it aside for a human, with the reason."""
        ...


class Bus(Protocol):
    """At-least-once delivery of messages to durable queues, shared by a queue's consumers."""

    async def declare(self, topology: Topology) -> None:
        """Make the whole topology exist. Comes before the first publish of any process."""
        ...

    async def publish(self, messages: Sequence[Message]) -> Sequence[Exception | None]:
        """Hand messages over durably, in order; for each, None or why it was not taken."""
        ...

    def subscribe(self, queue: str) -> AbstractAsyncContextManager[Inlet]:
        """Consume a declared queue."""
        ...
