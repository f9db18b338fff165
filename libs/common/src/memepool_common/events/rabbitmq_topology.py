"""What the broker holds for a topology: exchanges, queues and bindings, as plain data.

    memepool.events ──key──▶ <queue> ──over DELIVERY_LIMIT──▶ memepool.dead ──▶ <queue>.dead
        │ no binding           ▲
        ▼                      ├─ memepool.requeue ◀─TTL─ <service>.retry.<n>s ◀─ memepool.retry
    memepool.unrouted          └─ memepool.republish ◀── an operator: one queue hears it all again
     ──▶ unrouted

A consumer publishes retries and dead letters under the name of its own queue, so topic permissions
say for these too who may. FieldTable are what RabbitMQ 3.10 and 4.x both understand; limits are
explicit because their defaults differ (no delivery limit in 3.x, 20 in 4.x; -1 means unlimited in
one and none at all in the other).
"""

from typing import Any, NamedTuple

from aiormq.abc import FieldTable

from memepool_common.events.bus import UNROUTED_QUEUE, Topology

EVENTS_EXCHANGE = "memepool.events"
RETRY_EXCHANGE = "memepool.retry"
REQUEUE_EXCHANGE = "memepool.requeue"
DEAD_EXCHANGE = "memepool.dead"
REPUBLISH_EXCHANGE = "memepool.republish"
UNROUTED_EXCHANGE = "memepool.unrouted"

RETRY_DELAYS_S = (1, 5, 30, 120)
"""A queue each: a message's TTL counts only once it stands at the head of its queue."""

DELIVERY_LIMIT = 100
"""Returns of a message by consumers that died with it, before it is taken for what kills them."""

LENGTH_MAX = 1_000_000
"""Messages in a queue. A full queue refuses, and the publisher's outbox keeps the rest."""

_UNLIMITED = 1_000_000


class Plan(NamedTuple):
    """Everything to be declared, all of it durable."""

    exchanges: dict[str, dict[str, Any]]
    """By name: type, internal (fed by the broker alone), arguments."""
    queues: dict[str, FieldTable]
    bindings: list[tuple[str, str, str]]
    """Exchange, routing key, queue."""


def plan(topology: Topology) -> Plan:
    """The broker's part of a topology."""
    unrouted = {"alternate-exchange": UNROUTED_EXCHANGE}
    exchanges: dict[str, dict[str, Any]] = {
        EVENTS_EXCHANGE: {"type": "topic", "arguments": unrouted},
        RETRY_EXCHANGE: {"type": "topic"},
        REQUEUE_EXCHANGE: {"type": "topic", "internal": True},
        DEAD_EXCHANGE: {"type": "topic"},
        REPUBLISH_EXCHANGE: {"type": "topic"},
        UNROUTED_EXCHANGE: {"type": "fanout", "internal": True},
    }
    queues = {UNROUTED_QUEUE: _quorum(_UNLIMITED)}
    bindings = {(UNROUTED_EXCHANGE, "", UNROUTED_QUEUE)}
    for queue, routing_keys in topology.items():
        if queue == UNROUTED_QUEUE:
            continue
        queues[queue] = _quorum(DELIVERY_LIMIT, DEAD_EXCHANGE, queue)
        queues[dead_queue(queue)] = _quorum(_UNLIMITED)
        bindings |= {(EVENTS_EXCHANGE, key, queue) for key in routing_keys}
        bindings |= {(REPUBLISH_EXCHANGE, republish_key(key, queue), queue) for key in routing_keys}
        bindings |= {(REQUEUE_EXCHANGE, f"*.{queue}", queue)}
        bindings |= {(DEAD_EXCHANGE, queue, dead_queue(queue))}
        service = queue.partition(".")[0]
        for delay_s in RETRY_DELAYS_S:
            waiting = f"{service}.retry.{delay_s}s"
            queues[waiting] = _quorum(_UNLIMITED, REQUEUE_EXCHANGE) | {
                "x-message-ttl": delay_s * 1000
            }
            bindings |= {(RETRY_EXCHANGE, f"{delay_s}s.{queue}", waiting)}
    return Plan(exchanges, queues, sorted(bindings))


def dead_queue(queue: str) -> str:
    """Where the queue's dead letters wait for a human."""
    return f"{queue}.dead"


def republish_key(routing_key: str, queue: str) -> str:
    """The key on the republish exchange that brings an event to one queue, if it is bound to it.

    It begins as the event's own does, so the same topic permission says who may.
    """
    return f"{routing_key}.{queue}"


def retry_key(queue: str, delay_s: float) -> str:
    """The routing key on the retry exchange that brings a message back after `delay_s` or more.

    The longest wait is the last of RETRY_DELAYS_S.
    """
    enough = (each for each in RETRY_DELAYS_S if each >= delay_s)
    return f"{next(enough, RETRY_DELAYS_S[-1])}s.{queue}"


def _quorum(
    delivery_limit: int, dead_letter_exchange: str = "", dead_letter_key: str = ""
) -> FieldTable:
    arguments: FieldTable = {
        "x-queue-type": "quorum",
        "x-delivery-limit": delivery_limit,
        "x-max-length": LENGTH_MAX,
        "x-overflow": "reject-publish",
    }
    if dead_letter_exchange:
        arguments["x-dead-letter-exchange"] = dead_letter_exchange
        arguments["x-dead-letter-strategy"] = "at-least-once"
    if dead_letter_key:
        arguments["x-dead-letter-routing-key"] = dead_letter_key
    return arguments
