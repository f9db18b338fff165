"""Our own chain of headers: fed by the events of rounds, completed from the source."""

from collections.abc import Sequence
from datetime import UTC, datetime

import structlog

from memepool_chain import headerstore
from memepool_chain.network import Network
from memepool_common.db import Database, Session
from memepool_payments.adapters.chain_source import ChainSource
from memepool_payments.store import deposits

FETCHES_MAX = 200
log = structlog.get_logger(__name__)


async def add(session: Session, network: Network, raw_headers: Sequence[bytes]) -> None:
    """Check headers and follow the branch with the most work.

    Deposits in blocks that left it are looked at again (`deposits.prove`): nothing is reversed
    before we know that the new branch lacks them. Raises HeaderError for a wrong header.
    """
    change = await headerstore.add_headers(session, network, raw_headers, now=datetime.now(UTC))
    if change.disconnected:
        hashes = [header.hash for header in change.disconnected]
        log.warning("reorganisation", blocks=len(hashes), tip=change.tip.hash)
        await deposits.disconnect(session, hashes)
    if change.connected:
        await deposits.reconnect(session, [header.hash for header in change.connected])
        await deposits.mark_block(session, change.tip.height)


async def complete(database: Database, source: ChainSource, network: Network) -> None:
    """Fetch the parents of headers that came before them."""
    for _ in range(FETCHES_MAX):
        async with database.read() as session:
            missing = await headerstore.missing_parents(session, limit=1)
        if not missing:
            return
        found = await source.header(missing[0])
        async with database.transaction() as session:
            await add(session, network, [found.header.serialize()])
