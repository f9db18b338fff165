"""The demo's checks see a single missing satoshi."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from memepool_chain.whatsonchain import WhatsOnChain
from memepool_common.db import Database
from memepool_common.settings import DatabaseSettings
from memepool_sandbox.accounting import check_coins, check_ledger, check_pot
from memepool_sandbox.chain.node import Node
from memepool_sandbox.demo import demo
from memepool_sandbox.wallet import Wallet

RESULTS: dict[str, Any] = {
    "pot": 1_000,
    "carryIn": 100,
    "fee": 20,
    "carryOut": 80,
    "ranking": [{"stakes": 600}, {"stakes": 300}],
    "rewards": [{"amount": 500}, {"amount": 400}],
}


def test_a_round_that_adds_up() -> None:
    assert all(check.holds for check in check_pot(RESULTS, 900))


@pytest.mark.parametrize("field", ["pot", "carryIn", "fee", "carryOut"])
def test_one_satoshi_off_is_seen(field: str) -> None:
    results = {**RESULTS, field: RESULTS[field] + 1}
    assert not all(check.holds for check in check_pot(results, 900))


def test_votes_that_the_results_do_not_know_are_seen() -> None:
    assert not all(check.holds for check in check_pot(RESULTS, 901))


async def test_coins_are_counted_on_the_chain(
    database_for: Callable[[str], Awaitable[Database]], woc_url: str, node: Node
) -> None:
    database = await database_for("payments")
    assert all(check.holds for check in await check_ledger(database))
    add = text("insert into deposit_address values (:user, default, :address, now(), null)")
    for n in range(25):  # more than one bulk call takes
        wallet = Wallet(b"depositor %d" % n)
        async with database.transaction() as session:
            await session.execute(add, {"user": uuid4(), "address": wallet.address})
        node.fund(wallet.address, 1_000)
    node.mine()
    node.fund(Wallet(b"depositor 0").address, 500)  # still in the mempool
    reserves = {"owed": {"total": 24_000}, "pendingDeposits": 500, "platformEquity": 1_000}
    async with WhatsOnChain(woc_url, rate_per_s=1_000) as source:
        assert (await check_coins(database, source, reserves)).holds
        reserves["pendingDeposits"] = 501
        wrong = await check_coins(database, source, reserves)
    assert not wrong.holds
    assert wrong.numbers == "25500 = 24000 + 501 + 1000"


async def test_a_round_that_cannot_be_played_is_said(woc: httpx.AsyncClient) -> None:
    said: list[str] = []
    nowhere = str(woc.base_url)
    unused = DatabaseSettings(url=SecretStr("postgresql+psycopg://nobody@/nowhere"), app_role="x")
    assert not await demo(nowhere, nowhere, unused, seed=b"s", say=said.append)
    assert "could not be played: ApiError: POST" in said[-1]
