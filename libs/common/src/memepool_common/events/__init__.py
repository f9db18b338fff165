"""Domain events: envelope, outbox, relay, bus, inbox, consumers."""

from memepool_common.events.bus import Bus, Delivery, Inlet, Message
from memepool_common.events.consumer import Handler, Subscription, run_consumer
from memepool_common.events.envelope import Event, NewEvent, NotAnEventError
from memepool_common.events.relay import run_relay

__all__ = [
    "Bus",
    "Delivery",
    "Event",
    "Handler",
    "Inlet",
    "Message",
    "NewEvent",
    "NotAnEventError",
    "Subscription",
    "run_consumer",
    "run_relay",
]
