"""After a run: is every acknowledged vote counted or refused, once, and the money right?"""

from collections.abc import Sequence

import aio_pika
import psycopg
from aio_pika.exceptions import AMQPError

from benchmarks.rounds.site import PASSWORD, VHOST, Site
from memepool_common.db import Database
from memepool_common.events.rabbitmq_topology import dead_queue
from memepool_common.testing import until
from memepool_payments.store.invariants import broken

SETTLE_TIMEOUT_S = 60.0
QUEUES = {"rounds": "rounds.stakes", "payments": "payments.stakes"}
COINS = "coins_equal_what_is_owed"
"""The one invariant that cannot hold here: the voters' money was never a coin."""

_PENDING = "select count(*) from vote where state = 'pending'"
_UNSENT = "select count(*) from outbox where published_at is null"
_TALLIES = """
select count(*) from submission s full join (
  select content_id, sum(amount) as stakes, count(distinct voter_id) as backers
  from vote where state = 'counted' group by content_id) v using (content_id)
where s.stakes <> coalesce(v.stakes, 0) or s.backers <> coalesce(v.backers, 0)
   or s.content_id is null"""


async def settle(site: Site) -> None:
    """Wait until nothing is on its way any more; what is then still pending will be told."""

    async def settled() -> bool:
        return not await _left(site)

    await until(settled, SETTLE_TIMEOUT_S)


async def wrongs(site: Site, acknowledged: Sequence[str]) -> list[str]:
    """All that is not as it must be."""
    with psycopg.connect(site.conninfo("rounds")) as rounds:
        states: dict[str, str] = dict(rounds.execute("select id::text, state from vote").fetchall())
        tallies = rounds.execute(_TALLIES).fetchone()
    with psycopg.connect(site.conninfo("payments")) as payments:
        stakes: dict[str, str] = dict(
            payments.execute("select vote_id::text, state from stake").fetchall()
        )
        escrow = payments.execute(
            "select coalesce(sum(e.amount), 0) from entry e join account a on a.id = e.account_id"
            " where a.kind = 'round_escrow'"
        ).fetchone()
    counted = {vote for vote, state in states.items() if state == "counted"}
    rejected = {vote for vote, state in states.items() if state == "rejected"}
    held = {vote for vote, state in stakes.items() if state == "held"}
    database = Database.connect(site.settings["payments"])
    async with database.read() as session:
        violated = [name for name in await broken(session) if name != COINS]
    await database.close()
    found = {
        "acknowledged more than once": len(acknowledged) - len(set(acknowledged)),
        "acknowledged votes are lost": len(set(acknowledged) - states.keys()),
        "votes are neither counted nor rejected": len(states) - len(counted) - len(rejected),
        "votes count without a held stake": len(counted - held),
        "stakes are held for votes that do not count": len(held - counted),
        "rejected votes without a decision of payments": len(rejected - stakes.keys()),
        "memes whose tally is not the sum of their votes": tallies and tallies[0],
        "satoshis between escrow and counted votes": escrow and int(escrow[0]) - len(counted),
        "events were put aside": await _dead(site),
        "invariants of the ledger are broken": len(violated),
    }
    return [f"{count} {what}" for what, count in found.items() if count]


async def _left(site: Site) -> int:
    left = 0
    for service, queries in (("rounds", (_PENDING, _UNSENT)), ("payments", (_UNSENT,))):
        async with await psycopg.AsyncConnection.connect(site.conninfo(service)) as connection:
            for query in queries:
                row = await (await connection.execute(query)).fetchone()
                left += int(row[0]) if row else 0
    return left


async def _dead(site: Site) -> int:
    count = 0
    for service, queue in QUEUES.items():
        url = site.broker.url.with_user(service).with_password(PASSWORD).with_path(f"/{VHOST}")
        async with await aio_pika.connect(str(url)) as connection:
            channel = await connection.channel()
            try:
                dead = await channel.declare_queue(dead_queue(queue), passive=True)
            except AMQPError as error:
                raise RuntimeError("the queue of dead letters is not there") from error
            count += dead.declaration_result.message_count or 0
    return count
