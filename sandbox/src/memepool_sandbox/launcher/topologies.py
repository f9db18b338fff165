"""Every queue of every service."""

import memepool_auth.worker
import memepool_content.worker
import memepool_gateway.worker
import memepool_payments.worker
import memepool_rounds.worker

_WORKERS = (
    memepool_auth.worker,
    memepool_content.worker,
    memepool_rounds.worker,
    memepool_payments.worker,
    memepool_gateway.worker,
)


def all_queues() -> dict[str, list[str]]:
    """The routing keys bound to each queue, of all services."""
    return {name: keys for worker in _WORKERS for name, keys in worker.topology().items()}
