"""Whether every satoshi is accounted for: what the demo proves, each check by itself."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import text

from memepool_chain.whatsonchain import BATCH_MAX, WhatsOnChain
from memepool_common.db import Database

SOURCE_RATE_PER_S = 50.0


class Check(NamedTuple):
    """A claim, whether it holds, and the numbers behind it."""

    claim: str
    holds: bool
    numbers: str


def check_pot(results: dict[str, Any], counted_sats: int) -> Iterable[Check]:
    """The published results of a round: what came in is what went out.

    Args:
        results: the answer of GET /rounds/{id}/results.
        counted_sats: the sum of the counted votes, as their voters saw them.
    """
    pot, fee, carry_out = results["pot"], results["fee"], results["carryOut"]
    rewards = sum(line["amount"] for line in results["rewards"])
    yield Check(
        "pot = fee + rewards + carry-over",
        pot == fee + rewards + carry_out,
        f"{pot} = {fee} + {rewards} + {carry_out}",
    )
    carry_in = results["carryIn"]
    yield Check(
        "pot = counted stakes + carry-in",
        pot == counted_sats + carry_in,
        f"{pot} = {counted_sats} + {carry_in}",
    )
    stakes = sum(meme["stakes"] for meme in results["ranking"])
    yield Check("ranked stakes = counted stakes", stakes == counted_sats, f"{stakes}")


async def check_ledger(database: Database) -> Iterable[Check]:
    """The entries of payments' ledger, read from its database."""
    sums = text("select count(*), coalesce(sum(amount), 0) from entry")
    unequal = text(
        "select count(*) from balance b where b.posted <>"
        " (select coalesce(sum(e.amount), 0) from entry e where e.account_id = b.account_id)"
    )
    async with database.read() as session:
        entries, total = (await session.execute(sums)).one()
        balances = (await session.execute(unequal)).scalar_one()
    return [
        Check("all ledger entries sum to zero", total == 0, f"{entries} entries, sum {total}"),
        Check("each balance is the sum of its entries", balances == 0, f"{balances} are not"),
    ]


async def check_coins(database: Database, source: WhatsOnChain, reserves: dict[str, Any]) -> Check:
    """Coins on all deposit addresses, as the chain shows them, against what they must cover.

    `reserves` is the answer of GET /payments/reserves.
    """
    query = text("select address from deposit_address where address is not null order by 1")
    async with database.read() as session:
        addresses = list((await session.execute(query)).scalars())
    coins_sats = 0
    for first in range(0, len(addresses), BATCH_MAX):
        found = await source.unspent_all(addresses[first : first + BATCH_MAX])
        coins_sats += sum(coin.satoshis for coins in found.values() for coin in coins)
    owed, pending = reserves["owed"]["total"], reserves["pendingDeposits"]
    equity = reserves["platformEquity"]
    return Check(
        "coins on chain = owed + pending deposits + platform's own",
        coins_sats == owed + pending + equity,
        f"{coins_sats} = {owed} + {pending} + {equity}",
    )
