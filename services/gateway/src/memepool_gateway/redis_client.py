"""Clients of Redis."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from memepool_gateway.settings import RedisSettings


def redis_client(settings: RedisSettings, *, answer_timeout_s: float | None = None) -> Redis:
    """A client with a pool of its own; close it with `aclose`.

    It tries once: whoever uses it knows what to do without Redis.

    Args:
        settings: where, and how long to wait.
        answer_timeout_s: instead of the settings', for commands that wait by themselves.
    """
    return Redis.from_url(
        settings.url.get_secret_value(),
        socket_connect_timeout=settings.timeout_s,
        socket_timeout=answer_timeout_s or settings.timeout_s,
        retry=Retry(NoBackoff(), 0),
        max_connections=settings.connections_max,
        # While these are on, a kept connection that has died is not noticed before it is used.
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        client_name="memepool-gateway",
    )
