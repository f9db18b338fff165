"""Measures relay and consumer against bare aio-pika on the same broker, in the same run.

Starts a private RabbitMQ and PostgreSQL, as `make test` does, or uses the ones at
`MEMEPOOL_TEST_RABBITMQ` and `MEMEPOOL_TEST_POSTGRES`. Exit code 1 when a target is missed.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aio_pika
import uvloop
from pydantic import SecretStr
from sqlalchemy import text

from memepool_common.db import Database, Session
from memepool_common.events import Event, NewEvent, Subscription, outbox, run_consumer, run_relay
from memepool_common.events.bus import UNROUTED_QUEUE
from memepool_common.events.envelope import PUBLIC
from memepool_common.events.rabbitmq import RabbitBus
from memepool_common.migrations import migrate
from memepool_common.settings import DatabaseSettings
from memepool_common.testing import until
from memepool_common.web.model import WireModel
from memepool_sandbox.postgres import PostgresServer, provision, start_postgres
from memepool_sandbox.rabbitmq_server import PrivateRabbitmq, RabbitmqServer
from memepool_sandbox.testing.rabbitmq import Vhost, Vhosts

SAMPLE = "memepool_common.testing.sample"
QUEUE = "sample.bench"
KEY = "sample.thing.happened.v1"
PREFETCH = 256
CONFIRM_CHUNK = 500
RATIO_MIN = 0.6
AGE_P50_MS_MAX, AGE_P99_MS_MAX = 20.0, 100.0


class Thing(WireModel):
    """About as large as most events."""

    name: str
    detail: str = "x" * 200


@dataclass
class Bench:
    """Fresh servers with one queue bound to one key."""

    database: Database
    bus: RabbitBus
    url: str
    events: int

    async def announce(self, count: int) -> None:
        """Commit events, a few hundred in a transaction."""
        for start in range(0, count, 500):
            async with self.database.transaction() as session:
                things = [Thing(name=str(n)) for n in range(start, min(start + 500, count))]
                await outbox.append(
                    session,
                    [NewEvent("memepool." + KEY, each.name, each, PUBLIC) for each in things],
                )

    async def purge(self) -> None:
        """Leave nothing to the next stage: bare messages are no events."""
        async with await aio_pika.connect(self.url) as connection:
            await (await (await connection.channel()).get_queue(QUEUE)).purge()


async def bare_publishing(bench: Bench) -> float:
    """Messages per second: aio-pika alone, 500 confirms at a time."""
    body = Thing(name="1").model_dump_json().encode()
    headers = {f"ce-{name}": "a value of usual length" for name in "abcdefgh"}
    async with await aio_pika.connect(bench.url) as connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        exchange = await channel.get_exchange("memepool.events")
        started = time.perf_counter()
        for _ in range(0, bench.events, CONFIRM_CHUNK):
            await asyncio.gather(
                *(
                    exchange.publish(
                        aio_pika.Message(
                            body,
                            headers=dict(headers),
                            content_type="application/json",
                            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                        ),
                        KEY,
                    )
                    for _ in range(CONFIRM_CHUNK)
                )
            )
        return bench.events / (time.perf_counter() - started)


async def relaying(bench: Bench) -> float:
    """Events per second from the outbox to the broker's confirm and the row's mark."""
    await bench.announce(bench.events)
    stopping = asyncio.Event()
    started = time.perf_counter()
    relay = asyncio.create_task(run_relay(bench.database, bench.bus, "/sample", stopping))
    pending = text("select exists (select from outbox where published_at is null)")

    async def all_published() -> bool:
        async with bench.database.read() as session:
            return not (await session.execute(pending)).scalar_one()

    await until(all_published, 600)
    took_s = time.perf_counter() - started
    stopping.set()
    await relay
    return bench.events / took_s


async def bare_consuming(bench: Bench) -> float:
    """Messages per second: aio-pika alone, prefetch 256, each acknowledged."""
    done = asyncio.Event()
    count = 0

    async def settle(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        nonlocal count
        await message.ack()
        count += 1
        if count == bench.events:
            done.set()

    async with await aio_pika.connect(bench.url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(QUEUE)
        started = time.perf_counter()
        await queue.consume(settle)
        await done.wait()
        return bench.events / (time.perf_counter() - started)


@contextlib.asynccontextmanager
async def consuming(
    bench: Bench, handler: Callable[[Session, Sequence[Event]], Awaitable[None]]
) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    subscription = Subscription(QUEUE, {"memepool." + KEY: handler})
    task = asyncio.create_task(run_consumer(bench.database, bench.bus, subscription, stopping))
    yield
    stopping.set()
    await task


async def handling(bench: Bench) -> float:
    """Events per second through inbox and handler to the acknowledgement."""
    done = asyncio.Event()
    count = 0

    async def count_events(_session: Session, events: Sequence[Event]) -> None:
        nonlocal count
        count += len(events)
        if count >= bench.events:
            done.set()

    started = time.perf_counter()
    async with consuming(bench, count_events):
        await done.wait()
        return bench.events / (time.perf_counter() - started)


async def ages_ms(bench: Bench, *, per_second: int, seconds: int) -> list[float]:
    """Milliseconds from commit to handler, at a steady rate of single-event transactions."""
    committed: dict[str, float] = {}
    ages: list[float] = []
    total = per_second * seconds

    async def note(_session: Session, events: Sequence[Event]) -> None:
        now = time.perf_counter()
        ages.extend((now - committed[event.subject]) * 1000 for event in events)

    async def commit(number: int) -> None:
        subject = f"age-{number}"
        async with bench.database.transaction() as session:
            thing = Thing(name=subject)
            await outbox.append(session, [NewEvent("memepool." + KEY, subject, thing, PUBLIC)])
            # A moment before the commit, so that no consumer can be earlier.
            committed[subject] = time.perf_counter()

    stopping = asyncio.Event()
    relay = asyncio.create_task(run_relay(bench.database, bench.bus, "/sample", stopping))
    async with consuming(bench, note):
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(total):
                await asyncio.sleep(max(0.0, started + number / per_second - time.perf_counter()))
                group.create_task(commit(number))
        await until(lambda: len(ages) >= total, 60)
    stopping.set()
    await relay
    return ages[per_second:]  # the first second warms up


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[tuple[PostgresServer, RabbitmqServer]]:
    """Given ones, or private ones. Durability as in production: PostgreSQL syncs to disk."""
    with contextlib.ExitStack() as stack:
        given = os.environ.get("MEMEPOOL_TEST_POSTGRES")
        postgres = (
            PostgresServer.at(given)
            if given
            else stack.enter_context(start_postgres(folder / "postgres"))
        )
        given = os.environ.get("MEMEPOOL_TEST_RABBITMQ")
        if given:
            yield postgres, RabbitmqServer.at(given)
            return
        private = PrivateRabbitmq(folder / "rabbitmq")
        private.start()
        stack.callback(private.kill)
        yield postgres, private


@contextlib.asynccontextmanager
async def fresh_bench(postgres: PostgresServer, vhost: Vhost, events: int) -> AsyncIterator[Bench]:
    name = f"bench_{vhost.name.replace('-', '_')}"
    provision(postgres, "sample", database=name)
    migrate(SAMPLE, postgres.url(name, "sample_owner"), "sample_app")
    settings = DatabaseSettings(
        url=SecretStr(postgres.url(name, "sample_app")), app_role="sample_app", pool_size=10
    )
    database = Database.connect(settings)
    url = vhost.url("sample")
    bus = RabbitBus(url, name="bench")
    try:
        await bus.declare({QUEUE: [KEY], UNROUTED_QUEUE: []})
        yield Bench(database, bus, url, events)
    finally:
        await bus.close()
        await database.close()
        with postgres.administer() as admin:
            admin.execute(f"drop database {name} with (force)")


async def measure(
    postgres: PostgresServer, vhosts: Vhosts, options: argparse.Namespace
) -> tuple[dict[str, list[float]], list[float]]:
    """Rates by what was measured, one value per repeat, and the ages of events."""
    rates: dict[str, list[float]] = {}
    for _ in range(options.repeats):
        # Side by side, so that what else the machine does touches both alike.
        async with fresh_bench(postgres, vhosts.take(), options.events) as bench:
            for stage in (bare_publishing, bare_consuming, relaying, handling):
                rates.setdefault(stage.__name__, []).append(await stage(bench))
                if stage is bare_consuming:  # its last acknowledgement may not have left
                    await bench.purge()
    async with fresh_bench(postgres, vhosts.take(), options.events) as bench:
        return rates, await ages_ms(bench, per_second=200, seconds=options.seconds)


def report(rates: dict[str, list[float]], ages: list[float]) -> bool:
    """Print the table; whether every target is met."""
    median = {name: statistics.median(values) for name, values in rates.items()}
    cuts = statistics.quantiles(ages, n=100)
    relay = median["relaying"] / median["bare_publishing"]
    consumer = median["handling"] / median["bare_consuming"]
    rows = [
        ("bare aio-pika, publish", f"{median['bare_publishing']:8.0f} /s", "reference", True),
        (
            "relay",
            f"{median['relaying']:8.0f} /s",
            f"{relay:.2f} >= {RATIO_MIN}",
            relay >= RATIO_MIN,
        ),
        ("bare aio-pika, consume", f"{median['bare_consuming']:8.0f} /s", "reference", True),
        (
            "consumer",
            f"{median['handling']:8.0f} /s",
            f"{consumer:.2f} >= {RATIO_MIN}",
            consumer >= RATIO_MIN,
        ),
        ("age p50", f"{cuts[49]:8.1f} ms", f"< {AGE_P50_MS_MAX:.0f}", cuts[49] < AGE_P50_MS_MAX),
        ("age p99", f"{cuts[98]:8.1f} ms", f"< {AGE_P99_MS_MAX:.0f}", cuts[98] < AGE_P99_MS_MAX),
    ]
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores")
    for name, value, target, met in rows:
        print(f"{name:24} {value:>14}   {target:14} {'' if met else 'MISSED'}")
    return all(met for *_, met in rows)


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bus", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000, help="per stage and repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10, help="of the steady rate")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, servers(Path(folder)) as (postgres, rabbitmq):
        rates, ages = uvloop.run(measure(postgres, Vhosts(rabbitmq), options))
    return 0 if report(rates, ages) else 1


if __name__ == "__main__":
    sys.exit(main())
