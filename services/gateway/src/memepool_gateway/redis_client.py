"""The client of Redis, with its limits in time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from memepool_gateway.settings import RedisSettings


class RedisAwayError(Exception):
    """Redis did not answer, or not in time, or refused."""


class RedisClient:
    """A client with a pool of its own. It tries once: whoever uses it knows what to do without.

    While all connections are taken one waits for them, within the limit in time: redis-py would
    refuse at once, and a burst of requests would pass for a Redis that is away.

    The time is limited here and not in `socket_timeout`, with which redis-py sends within
    `asyncio.wait_for`: on Python 3.11 that loses a cancellation which comes as the sending ends,
    and the cancelled task goes on (cpython issue 86296).

    Attributes:
        commands: what sends them, within `ask`.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self._timeout_s = settings.timeout_s
        self._free = asyncio.Semaphore(settings.connections_max)
        self.commands = Redis.from_url(
            settings.url.get_secret_value(),
            socket_connect_timeout=settings.timeout_s,
            socket_timeout=None,
            retry=Retry(NoBackoff(), 0),
            max_connections=settings.connections_max,
            # While these are on, a kept connection that has died is not noticed before it is used.
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            client_name="memepool-gateway",
        )

    async def ask(self, command: Callable[[], Awaitable[Any]], *, wait_s: float = 0.0) -> Any:
        """The answer to a command that itself may wait for `wait_s`.

        Raises:
            RedisAwayError: there is none.
        """
        try:
            async with asyncio.timeout(self._timeout_s + wait_s), self._free:
                return await command()
        except (RedisError, OSError) as error:  # a TimeoutError is an OSError, too
            raise RedisAwayError(repr(error)) from error

    async def close(self) -> None:
        """Close all connections."""
        await self.commands.aclose()
