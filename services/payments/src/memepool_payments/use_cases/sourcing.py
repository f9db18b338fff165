"""The chain source may fail for hours: that is weather, not a fault of ours."""

from collections.abc import Awaitable, Callable

import structlog
from prometheus_client import Gauge

from memepool_payments.adapters.chain_source import WhatsOnChainError

SOURCE_UP = Gauge("memepool_payments_chain_source_up", "1 while the chain source answers well")
log = structlog.get_logger(__name__)


def tolerating(action: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """The action, with failures of the chain source noted and left to the next turn."""

    async def tolerant() -> None:
        try:
            await action()
            SOURCE_UP.set(1)
        except WhatsOnChainError as error:
            SOURCE_UP.set(0)
            log.warning("chain_source_failed", error=repr(error))

    return tolerant
