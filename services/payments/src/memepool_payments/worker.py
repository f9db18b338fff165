"""The worker process: relay, consumers, deposits, distributions, reconciliation."""

import asyncio
from functools import partial

from memepool_chain import headerstore
from memepool_chain.checkpoint import fetch_checkpoint
from memepool_chain.headerstore import Checkpoint
from memepool_chain.network import network_named
from memepool_chain.whatsonchain import WhatsOnChain
from memepool_common.db import Database
from memepool_common.events import Bus, run_consumer, run_relay
from memepool_common.settings import BadSettingsError
from memepool_common.web.app import Probes
from memepool_common.web.lifespan import open_database
from memepool_common.worker import run_all, run_every
from memepool_payments.consumers import subscriptions
from memepool_payments.settings import ChainSettings, Settings
from memepool_payments.use_cases import (
    deposits,
    distribution,
    headers,
    holds,
    reconciliation,
    sealing,
    stakes,
)
from memepool_payments.use_cases.patrol import Patrol
from memepool_payments.use_cases.sourcing import tolerating


def topology() -> dict[str, list[str]]:
    """Every queue of payments with its bindings."""
    found = subscriptions(network_named("main"), fee_basis_points_max=0)
    return {each.queue: each.routing_keys for each in found}


async def run(settings: Settings, bus: Bus, probes: Probes, stopping: asyncio.Event) -> None:
    """Work until `stopping` is set; what is in flight then is finished.

    Raises:
        BadSettingsError: the network needs a checkpoint and none is set.
    """
    chain, work = settings.chain, settings.work
    network = network_named(chain.network)
    if network.retargets and chain.checkpoint_hash is None:
        raise BadSettingsError(
            f"MEMEPOOL_PAYMENTS_CHAIN__CHECKPOINT_HEIGHT and _HASH: {network.name} needs both"
        )
    source = WhatsOnChain(
        chain.source_url,
        chain.source_network,
        api_key=chain.source_api_key.get_secret_value() if chain.source_api_key else None,
        rate_per_s=chain.source_rate_per_s,
        timeout_s=chain.source_timeout_s,
    )
    async with open_database(settings.database, probes, "payments-worker") as database, source:
        await _start_chain(database, source, chain)

        async def look_for_deposits() -> None:
            await headers.complete(database, source, network)
            await deposits.scan(database, source, chain, amount_min=settings.money.deposit_min)
            await deposits.prove(database, source, chain)

        consumers = [
            run_consumer(database, bus, each, stopping)
            for each in subscriptions(network, settings.money.fee_basis_points_max)
        ]
        every = partial(run_every, stopping=stopping)
        await run_all(
            run_relay(database, bus, "/payments", stopping),
            *consumers,
            every(
                work.distribution_interval_s, partial(distribution.work, database), name="payout"
            ),
            every(
                work.distribution_interval_s,
                partial(stakes.refund_withdrawn, database),
                name="refunds",
            ),
            every(work.deposits_interval_s, tolerating(look_for_deposits), name="deposits"),
            every(work.holds_interval_s, partial(holds.expire_holds, database), name="holds"),
            every(work.seal_interval_s, partial(sealing.seal, database), name="sealing"),
            every(
                work.reconcile_interval_s,
                partial(reconciliation.reconcile, database),
                name="reconciliation",
            ),
            every(work.reconcile_interval_s, Patrol(database).walk, name="patrol"),
        )


async def _start_chain(database: Database, source: WhatsOnChain, chain: ChainSettings) -> None:
    """Give the header store its first block, once in the life of the database."""
    network = network_named(chain.network)
    async with database.read() as session:
        try:
            await headerstore.tip(session)
        except headerstore.NotInitializedError:
            pass
        else:
            return
    if chain.checkpoint_hash is None:
        checkpoint = Checkpoint.genesis(network)
    else:
        checkpoint = await fetch_checkpoint(
            source, network, height=chain.checkpoint_height, block_hash=chain.checkpoint_hash
        )
    async with database.transaction() as session:
        await headerstore.initialize(session, checkpoint)
