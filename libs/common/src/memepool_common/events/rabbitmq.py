"""The bus on RabbitMQ: quorum queues, confirmed publishing, acknowledgement by hand.

Nothing here waits for a lost broker: a publish answers with errors, an inlet raises
`BusUnavailableError`, and the next use connects anew. The loops around (relay, consumer) pause and
come back. Publishing and consuming have a connection each: a broker short of memory blocks those
that publish, and consumers are what frees it.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity, PublishError
from aiormq import Channel as WireChannel
from aiormq.abc import DeliveredMessage, FieldTable
from pamqp.commands import Basic

from memepool_common.events import rabbitmq_topology as layout
from memepool_common.events.bus import (
    BusUnavailableError,
    Delivery,
    InletLostError,
    Message,
    Topology,
)

TIMEOUT_S = 10.0
DECLARE_TIMEOUT_S = 60.0
HEARTBEAT_S = 30
CHUNK = 500
"""Messages published before their confirms are awaited."""
PREFETCH = 512
"""Unsettled messages per consumer: two batches, so that one arrives while the other commits."""

_BODY_HEADERS = ("content-type", "content-encoding")
_PERSISTENT = 2
log = structlog.get_logger(__name__)


class NotRoutedError(BusUnavailableError):
    """The broker has no queue for a message, and sent it back."""


class RabbitBus:
    """The `Bus` between processes.

    Args:
        url: `amqp://user:password@host:port/vhost`. The user becomes each message's `user_id`,
            which the broker verifies and consumers compare with the event's source.
        name: what the broker's operator sees this process as.
    """

    def __init__(self, url: str, *, name: str) -> None:
        self.user = urlsplit(url).username or "guest"
        self._publishing = _Link(url, f"{name} publish")
        self._consuming = _Link(url, f"{name} consume")
        self._topology: Topology | None = None

    async def close(self) -> None:
        """Close both connections; what is not acknowledged returns to its queue."""
        await self._consuming.close()
        await self._publishing.close()

    async def declare(self, topology: Topology) -> None:
        """Make everything exist; what vanishes later is made again when it is missed.

        Raises:
            BusUnavailableError: the broker is away, or a queue exists with other arguments.
        """
        plan = layout.plan(topology)
        with _failures_named():
            async with asyncio.timeout(DECLARE_TIMEOUT_S):
                channel = await self._consuming.open_channel()
                exchanges = {
                    name: await channel.declare_exchange(name, durable=True, **options)
                    for name, options in plan.exchanges.items()
                }
                queues = {
                    name: await channel.declare_queue(name, durable=True, arguments=arguments)
                    for name, arguments in plan.queues.items()
                }
                for exchange, key, queue in plan.bindings:
                    await queues[queue].bind(exchanges[exchange], key)
                await channel.close()
        self._topology = topology

    async def mend(self, error: Exception | None) -> None:
        """Make everything exist again if the error says that something of it is missing."""
        if self._topology is not None and _is_missing(error):
            log.warning("topology_vanished", error=repr(error))
            with contextlib.suppress(BusUnavailableError):
                await self.declare(self._topology)

    async def publish(self, messages: Sequence[Message]) -> Sequence[Exception | None]:
        """Hand messages to every bound queue, in order, each answered for by the broker."""
        outcomes: list[Exception | None] = []
        for start in range(0, len(messages), CHUNK):
            chunk = [
                (layout.EVENTS_EXCHANGE, each.routing_key, self.properties(each), each.body)
                for each in messages[start : start + CHUNK]
            ]
            outcomes += await self.send(chunk)
        await self.mend(next(filter(_is_missing, outcomes), None))
        return outcomes

    @contextlib.asynccontextmanager
    async def subscribe(self, queue: str) -> AsyncIterator["_QueueInlet"]:
        """Consume a declared queue.

        Raises:
            BusUnavailableError: broker or queue is away.
        """
        inlet = _QueueInlet(self, queue)
        try:
            with _failures_named():
                async with asyncio.timeout(TIMEOUT_S):
                    await inlet.open(await self._consuming.open_channel())
            yield inlet
        except BusUnavailableError as error:
            await self.mend(error)
            raise
        finally:
            await inlet.close()

    async def send(
        self, publications: Sequence[tuple[str, str, Basic.Properties, bytes]]
    ) -> list[Exception | None]:
        """Publish (exchange, key, properties, body) on one channel without waiting in between.

        Beneath aio-pika's `Exchange.publish`, which waits for the socket after each message.
        """
        try:
            with _failures_named():
                async with asyncio.timeout(TIMEOUT_S):
                    channel = await self._publishing.confirming()
                    outcomes = await asyncio.gather(
                        *(
                            channel.basic_publish(
                                body,
                                exchange=exchange,
                                routing_key=key,
                                properties=properties,
                                mandatory=True,
                                wait=False,
                            )
                            for exchange, key, properties, body in publications
                        ),
                        return_exceptions=True,
                    )
        except BusUnavailableError as error:
            await self._publishing.close()  # which confirms are still to come is unknown
            return [error] * len(publications)
        return [_refusal(each) for each in outcomes]

    async def backlog(self, queue: str) -> int:
        """How many messages wait in a queue.

        Raises:
            LookupError: there is no such queue.
            BusUnavailableError: the broker is away.
        """
        try:
            with _failures_named():
                async with asyncio.timeout(TIMEOUT_S):
                    channel = await self._consuming.open_channel()
                    found = await channel.declare_queue(queue, passive=True)
                    await channel.close()
                    return found.declaration_result.message_count or 0
        except BusUnavailableError as error:
            if not isinstance(error.__cause__, ChannelNotFoundEntity):
                raise
            raise LookupError(f"there is no queue {queue}") from error

    def properties(self, message: Message, notes: FieldTable | None = None) -> Basic.Properties:
        """The AMQP properties of a message, after the CloudEvents binding for RabbitMQ.

        `notes` are headers of ours, by names in `x-`, that are no part of the message.
        """
        headers: FieldTable = {k: v for k, v in message.headers.items() if k not in _BODY_HEADERS}
        return Basic.Properties(
            content_type=message.headers.get("content-type"),
            content_encoding=message.headers.get("content-encoding"),
            headers=headers | (notes or {}),
            delivery_mode=_PERSISTENT,
            message_id=str(message.id),
            message_type=message.headers.get("ce-type"),
            user_id=self.user,
        )


class _QueueInlet:
    """A consumer on a channel of its own. The channel's loss is final: subscribe again."""

    def __init__(self, bus: RabbitBus, queue: str) -> None:
        self._bus = bus
        self._queue = queue
        self._arrived: deque[DeliveredMessage] = deque()
        self._unsettled: dict[int, None] = {}  # delivery tags handed out, in order
        self._woken = asyncio.Event()
        self._lost: str | None = None
        self._channel: AbstractChannel | None = None
        self._wire: WireChannel

    async def open(self, channel: AbstractChannel) -> None:
        self._channel = channel
        channel.close_callbacks.add(lambda _channel, error: self._lose(repr(error)))
        self._wire = await _wire_of(channel)
        self._wire.on_consumer_cancel_callbacks.add(lambda _: self._lose("the queue is gone"))
        await channel.set_qos(prefetch_count=PREFETCH)
        await self._wire.basic_consume(self._queue, self._on_message)

    async def close(self) -> None:
        """Stop deliveries and give back what is not settled; both come with the channel's end."""
        if self._channel is not None:
            await _quietly(self._channel.close())

    async def receive(self, size_max: int, timeout_s: float) -> Sequence[Delivery]:
        if not self._arrived and self._lost is None:
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._woken.wait()
        if self._lost is not None:
            raise InletLostError(self._lost)
        count = min(size_max, len(self._arrived))
        received = [self._delivery(self._arrived.popleft()) for _ in range(count)]
        self._unsettled.update((each.tag, None) for each in received)
        return received

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        tags = sorted(each.tag for each in deliveries)
        if not tags:
            return
        with _failures_named(InletLostError):
            if list(islice(self._unsettled, len(tags))) == tags:
                await self._wire.basic_ack(tags[-1], multiple=True)
            else:
                for tag in tags:
                    await self._wire.basic_ack(tag, wait=tag == tags[-1])
        for tag in tags:
            del self._unsettled[tag]

    async def retry(self, delivery: Delivery, delay_s: float) -> None:
        key = layout.retry_key(self._queue, delay_s)
        await self._move(
            delivery, layout.RETRY_EXCHANGE, key, {"x-attempts": delivery.attempts + 1}
        )

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        notes: FieldTable = {
            "x-attempts": delivery.attempts,
            "x-error": reason,
            "x-error-at": datetime.now(UTC).isoformat(),
        }
        await self._move(delivery, layout.DEAD_EXCHANGE, self._queue, notes)

    async def _move(self, delivery: Delivery, exchange: str, key: str, notes: FieldTable) -> None:
        """Publish a copy, and only when the broker has it, settle the original."""
        if self._lost is not None:
            raise InletLostError(self._lost)
        message = delivery.message
        notes |= {"x-routing-key": message.routing_key, "x-sender": delivery.sender or ""}
        properties = self._bus.properties(message, notes)
        (error,) = await self._bus.send([(exchange, key, properties, message.body)])
        if error is not None:
            await self._bus.mend(error)
            raise error
        await self.ack([delivery])

    def _delivery(self, delivered: DeliveredMessage) -> Delivery:
        properties = delivered.header.properties
        sender = properties.user_id or ""
        headers: dict[str, Any] = dict(properties.headers or {})
        routing_key, attempts = delivered.routing_key or "", 0
        if sender == self._bus.user and "x-sender" in headers:  # our own copy for a retry
            sender = str(headers["x-sender"])
            routing_key, attempts = str(headers["x-routing-key"]), int(headers["x-attempts"])
        texts = {k: v for k, v in headers.items() if isinstance(v, str) and not k.startswith("x-")}
        body = zip(
            _BODY_HEADERS, (properties.content_type, properties.content_encoding), strict=True
        )
        texts |= {name: value for name, value in body if value}
        message = Message(_uuid(properties.message_id), routing_key, texts, delivered.body)
        return Delivery(message, attempts, delivered.delivery_tag, sender)

    async def _on_message(self, delivered: DeliveredMessage) -> None:
        self._arrived.append(delivered)
        self._woken.set()

    def _lose(self, reason: str) -> None:
        self._lost = self._lost or reason
        self._woken.set()


class _Link:
    """One connection, made when it is first needed and again after it was lost."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._connecting = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._confirming: AbstractChannel | None = None

    async def confirming(self) -> WireChannel:
        """The channel to publish on; unroutable messages are errors."""
        if self._confirming is None or self._confirming.is_closed:
            self._confirming = await self.open_channel()
        return await _wire_of(self._confirming)

    async def close(self) -> None:
        connection, self._connection, self._confirming = self._connection, None, None
        if connection is not None:
            await _quietly(connection.close())

    async def open_channel(self) -> AbstractChannel:
        async with self._connecting:
            if self._connection is None or not self._connection.connected.is_set():
                self._connection = await aio_pika.connect(
                    self._url,
                    timeout=TIMEOUT_S,
                    heartbeat=HEARTBEAT_S,
                    client_properties={"connection_name": self._name},
                )
            return await self._connection.channel(publisher_confirms=True, on_return_raises=True)


async def _wire_of(channel: AbstractChannel) -> WireChannel:
    """The protocol's channel beneath, for what must be fast."""
    return cast("WireChannel", await channel.get_underlay_channel())


async def _quietly(closing: Awaitable[object]) -> None:
    with contextlib.suppress(AMQPError, OSError, RuntimeError):
        async with asyncio.timeout(TIMEOUT_S):
            await closing


def _refusal(outcome: object) -> BusUnavailableError | None:
    if not isinstance(outcome, BaseException):
        return None
    kind = NotRoutedError if isinstance(outcome, PublishError) else BusUnavailableError
    refusal = kind(repr(outcome))
    refusal.__cause__ = outcome
    return refusal


def _is_missing(error: Exception | None) -> bool:
    """Whether a queue or an exchange is not there. Whatever is published has its catch-all."""
    if error is None:
        return False
    return isinstance(error, NotRoutedError) or isinstance(error.__cause__, ChannelNotFoundEntity)


@contextlib.contextmanager
def _failures_named(
    kind: type[BusUnavailableError] = BusUnavailableError,
) -> Iterator[None]:
    """The libraries' many ways of saying that the broker is away, as one."""
    try:
        yield
    except BusUnavailableError:
        raise
    except (AMQPError, OSError, RuntimeError) as error:
        raise kind(repr(error)) from error


def _uuid(text: str | None) -> UUID:
    try:
        return UUID(text or "")
    except ValueError:
        return UUID(int=0)  # whoever sent this, it is no event, and the parser will say so
