"""RabbitMQ's definitions for Memepool: a user per service, what each may do, and all queues.

Everything exists before the first process starts, so no event of the first minute is lost to a
service that comes later. Passwords are in it as salted hashes.
"""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from memepool_common.events import rabbitmq_topology
from memepool_common.events.bus import UNROUTED_QUEUE, Topology

Document = dict[str, Any]


def definitions(vhost: str, topology: Topology, passwords: Mapping[str, str]) -> Document:
    """The document that a broker is started with, or that is imported into it.

    Args:
        vhost: where everything lives.
        topology: the queues of all services with their bindings.
        passwords: of each service's user, who is called like the service.
    """
    plan = rabbitmq_topology.plan({UNROUTED_QUEUE: [], **topology})
    durable = {"vhost": vhost, "durable": True, "auto_delete": False}
    return {
        "vhosts": [{"name": vhost}],
        "users": [
            {
                "name": service,
                "password_hash": _hash(password),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": [],
            }
            for service, password in passwords.items()
        ],
        "permissions": [permissions(vhost, service) for service in passwords],
        "topic_permissions": [
            each for service in passwords for each in topic_permissions(vhost, service)
        ],
        "exchanges": [
            {"name": name, "internal": False, "arguments": {}} | options | durable
            for name, options in plan.exchanges.items()
        ],
        "queues": [
            {"name": name, "arguments": arguments} | durable
            for name, arguments in plan.queues.items()
        ],
        "bindings": [
            {
                "source": exchange,
                "vhost": vhost,
                "destination": queue,
                "destination_type": "queue",
                "routing_key": key,
                "arguments": {},
            }
            for exchange, key, queue in plan.bindings
        ],
    }


def permissions(vhost: str, service: str) -> Document:
    """A service may touch its own queues, and the exchanges that all share."""
    own = rf"{service}\..*|memepool\.(events|retry|requeue|dead|republish|unrouted)"
    make = f"^({own}|{UNROUTED_QUEUE})$"  # everybody declares where the unrouted goes; nobody reads
    return {
        "user": service,
        "vhost": vhost,
        "configure": make,
        "write": make,
        "read": f"^({own})$",
    }


def topic_permissions(vhost: str, service: str) -> list[Document]:
    """A service may say only its own events, and put aside only what its own queues hold."""
    own = {
        rabbitmq_topology.EVENTS_EXCHANGE: rf"^{service}\.",
        rabbitmq_topology.REPUBLISH_EXCHANGE: rf"^{service}\.",
        rabbitmq_topology.RETRY_EXCHANGE: rf"^[0-9]+s\.{service}\.",
        rabbitmq_topology.DEAD_EXCHANGE: rf"^{service}\.",
        rabbitmq_topology.REQUEUE_EXCHANGE: "^$",
    }
    return [
        {"user": service, "vhost": vhost, "exchange": exchange, "write": write, "read": ".*"}
        for exchange, write in own.items()
    ]


def _hash(password: str) -> str:
    """As RabbitMQ keeps it; the salt follows from the password: the same again, the same file."""
    salt = hashlib.sha256(b"salt" + password.encode()).digest()[:4]
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
