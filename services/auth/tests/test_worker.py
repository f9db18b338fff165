"""The worker process: it relays, consumes and cleans, and stops when it is told to."""

import asyncio

import pytest

from memepool_auth.store.cleaning import delete_expired
from memepool_auth.worker import run, topology
from memepool_common.db import Database
from memepool_common.testing import until
from memepool_common.web.app import Probes
from services.auth.tests.harness import Owner, Start, Wallet, in_process_bus

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_worker_publishes_what_the_api_wrote_and_stops(
    start: Start, as_owner: Owner
) -> None:
    auth = await start()
    database, stopping = Database.connect(auth.settings.database), asyncio.Event()
    bus = await in_process_bus(database)
    await bus.declare(topology())
    worker = asyncio.create_task(run(auth.settings, bus, Probes(), stopping))
    client = await auth.sign_in()

    async def published() -> bool:
        rows = await as_owner("select headers from bus_message where queue = 'unrouted'")
        return [row.headers["ce-subject"] for row in rows] == [client.user_id]

    await until(published)
    stopping.set()
    await asyncio.wait_for(worker, 10)
    await database.close()


async def test_what_has_run_out_is_deleted_and_nothing_else(start: Start, as_owner: Owner) -> None:
    auth = await start()
    client, wallet = await auth.sign_in(), Wallet()
    await auth.http.post("/auth/verify", json=await auth.prove(wallet))
    database = Database.connect(auth.settings.database)

    async def clean() -> int:
        async with database.transaction() as session:
            return await delete_expired(session)

    assert await clean() == 0
    await as_owner("update challenge set expires_at = now() - interval '11 minutes'")
    await as_owner("update sign_in_grant set expires_at = now() - interval '11 minutes'")
    assert await clean() == 3
    assert (await auth.me(client)).status_code == 200
    await as_owner(
        "update session set expires_at = now() - interval '8 days',"
        " tokens_expire_at = now() - interval '8 days'"
    )
    assert await clean() == 1
    assert (await as_owner("select count(*) as n from refresh_token"))[0].n == 0
    await database.close()
