"""Measures the ledger beside pgbench's TPC-B-like script, on one private and durable PostgreSQL.

Only ratios within one run mean something: the machine is never as quiet as one thinks. Exit code 1
when a goal is missed; without pgbench there is no reference, and nothing is judged.
"""

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import NamedTuple

import uvloop

from benchmarks.ledger import loads, over_http
from benchmarks.ledger.loads import Latency, People, Post
from benchmarks.ledger.others import Others
from benchmarks.ledger.setting import CLIENTS, SCALE, Cost, Meter, Setting, open_setting
from memepool_common import telemetry
from memepool_common.db import Database
from memepool_common.settings import TelemetrySettings
from memepool_payments.use_cases import distribution, reconciliation, sealing

REWARDS = 10_000
ROUNDS = 3
ROUND = 900_000
ALONE_S = 2.0
OPEN_LOOP_SHARE = 0.4


class Cell(NamedTuple):
    """One result; `goal` is the least ratio to the reference."""

    name: str
    rate: float
    latency: Latency | None = None
    cost: Cost | None = None
    goal: float | None = None


class Report:
    """Prints one line for each load, and remembers which goals were missed.

    The reference runs before and after each load; its ratio is to the mean of those two.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._before: float | None = None
        self.missed: list[str] = []

    @property
    def reference(self) -> float | None:
        """The last rate of the reference; None without pgbench."""
        return self._before

    async def start(self) -> None:
        """Measure the reference before the first load of a group."""
        self._before = await self._measure()

    async def line(self, *cells: Cell) -> None:
        """Print what a load came to, once the reference has run after it, too."""
        before, after = self._before, await self._measure()
        self._before = after
        reference = (before + after) / 2 if before and after else None
        for cell in cells:
            said = f"{cell.name:<52}{cell.rate:>9,.0f}/s"
            if reference:
                ratio = cell.rate / reference
                said += f"  ratio {ratio:4.2f}"
                if cell.goal is not None:
                    said += f" (goal {cell.goal})"
                    self.judge(cell.name, ok=ratio >= cell.goal)
            if cell.latency is not None:
                said += f"  p50 {cell.latency.p50_ms:.1f} p99 {cell.latency.p99_ms:.1f} ms"
            if cell.cost is not None:
                python, postgres = cell.cost
                said += f"  python {python:.0f} postgres {postgres:.0f} us"
            print(said, flush=True)

    def judge(self, name: str, *, ok: bool) -> None:
        """Whether a goal was reached."""
        if not ok:
            self.missed.append(name)

    async def _measure(self) -> float | None:
        if self._setting.pgbench is None:
            return None
        meter = Meter(self._setting)
        rate = await asyncio.to_thread(self._setting.reference, REFERENCE_S)
        cost = meter.per(int(rate * REFERENCE_S))
        name = f"  pgbench TPC-B-like, scale {SCALE}, {CLIENTS} clients"
        print(f"{name:<52}{rate:>9,.0f}/s  postgres {cost.postgres_us:.0f} us", flush=True)
        return rate


async def _posting(report: Report, setting: Setting, database: Database, people: People) -> None:
    journals, transfers = loads.bare_journals(database), loads.whole_transfers(database)

    async def run(
        name: str, post: Post, callers: int, goal: float | None = None, *, hot: bool = False
    ) -> float:
        meter = Meter(setting)
        latency = await loads.closed_loop(post, people, callers=callers, seconds=SECONDS, hot=hot)
        rate = latency.operations / SECONDS
        cost = meter.per(latency.operations)
        await report.line(Cell(f"{name}, {callers} callers", rate, latency, cost, goal))
        return rate

    await loads.closed_loop(journals, people, callers=32, seconds=WARM_UP_S)
    await report.start()
    await run("posting", journals, 32, 2.0)
    uniform = await run("posting", journals, 256, 3.0)
    hot = await run("posting to one hot account", journals, 256, hot=True)
    print(f"{'hot / uniform':<52}{hot / uniform:>9.2f}  (goal 0.8)")
    report.judge("hot / uniform", ok=hot >= 0.8 * uniform)
    await run("transfers, with event and audit", transfers, 32)
    capacity = await run("transfers, with event and audit", transfers, 256)
    for whose, rate in (("reference", report.reference), ("capacity", capacity)):
        if rate is not None:
            offered = OPEN_LOOP_SHARE * rate
            await asyncio.to_thread(setting.checkpoint)
            latency = await loads.open_loop(transfers, people, per_second=offered, seconds=SECONDS)
            name = f"open loop, hot account, {OPEN_LOOP_SHARE} of {whose}"
            await report.line(Cell(name, latency.operations / SECONDS, latency))
            report.judge(f"{name}: p99 of 10 ms", ok=latency.p99_ms <= 10)


async def _http(report: Report, setting: Setting, database: Database, people: People) -> None:
    await report.start()
    latency, cost = await over_http.measure(setting, database, people, callers=64, seconds=SECONDS)
    name = "POST /payments/transfer, one process, 64 callers"
    await report.line(Cell(name, latency.operations / SECONDS, latency, cost, 0.5))


async def _distribution(
    report: Report, _setting: Setting, database: Database, people: People
) -> None:
    """The worker pays while an API process posts for others; the median of some rounds."""
    for number in range(ROUNDS):
        await loads.prepare_round(database, people, str(ROUND + number), REWARDS)
    await loads.settle_server(database)
    await report.start()
    paid: list[tuple[float, float]] = []
    async with Others.posting(database, people, OTHERS) as others:
        for number in range(ROUNDS):
            await asyncio.sleep(ALONE_S)
            began = time.monotonic()
            while await distribution.step(database, str(ROUND + number)):
                pass
            paid.append((began, time.monotonic()))
    alone = [others.between(began - ALONE_S / 2, began) for began, _ in paid]
    beside = [others.between(*times) for times in paid]
    alone_s = median(each.operations * 2 / ALONE_S for each in alone)
    lasted_s = [ended - began for began, ended in paid]
    beside_s = median(map(lambda each, s: each.operations / s, beside, lasted_s))
    rewards_s = REWARDS / median(lasted_s)
    worst = max(beside, key=lambda each: each.p99_ms)
    await report.line(
        Cell(f"distribution of {REWARDS:,} rewards", rewards_s, goal=5.0),
        Cell(f"  {OTHERS} others, before it", alone_s, alone[-1]),
        Cell("  others, while it runs (slowest round's latency)", beside_s, worst),
    )
    report.judge("others keep half of their throughput", ok=2 * beside_s >= alone_s)
    report.judge("others' p99 under 60 ms", ok=worst.p99_ms < 60)


async def _reconciliation(
    report: Report, _setting: Setting, database: Database, people: People
) -> None:
    await loads.fill(database, people, entries=ENTRIES)
    await loads.settle_server(database)
    async with database.read() as session:
        entries = (await session.exec_driver_sql("select count(*) from entry")).scalar_one()
    began = asyncio.get_running_loop().time()
    broken = await reconciliation.reconcile(database)
    took_s = asyncio.get_running_loop().time() - began
    assert set(broken) <= {"coins_equal_what_is_owed"}, broken  # the money has no coins here
    print(f"{f'reconciliation of {entries:,} entries':<52}{took_s:>9.1f} s (goal 15)")
    report.judge("reconciliation", ok=took_s * 1e7 / max(entries, 1e7) <= 15)


async def _sealing(report: Report, setting: Setting, database: Database, people: People) -> None:
    await report.start()
    post = loads.whole_transfers(database)
    await loads.closed_loop(post, people, callers=256, seconds=SECONDS)
    meter = Meter(setting)
    began = asyncio.get_running_loop().time()
    while await sealing.seal(database):
        pass
    took_s = asyncio.get_running_loop().time() - began
    async with database.read() as session:
        journals = (await session.exec_driver_sql("select count(*) from journal")).scalar_one()
    await report.line(Cell("sealing, journals", journals / took_s, cost=meter.per(journals)))
    assert (await sealing.verify(database)).problem is None


Load = Callable[[Report, Setting, Database, People], Awaitable[None]]
LOADS: dict[str, Load] = {
    "posting": _posting,
    "distribution": _distribution,
    "http": _http,
    "sealing": _sealing,
    "reconciliation": _reconciliation,
}
SECONDS = 5
WARM_UP_S = 2
REFERENCE_S = 4
OTHERS = 32
ENTRIES = 10_000_000


async def _run(setting: Setting, names: list[str]) -> int:
    database = Database.connect(setting.database)
    report = Report(setting)
    try:
        people = await loads.populate(database)
        await loads.settle_server(database)
        gc.freeze()  # as every service does after its start
        for name in names:
            await LOADS[name](report, setting, database, people)
    finally:
        await database.close()
    for name in report.missed:
        print(f"MISSED: {name}")
    return 1 if report.missed else 0


def main() -> int:
    """Run all loads, or those named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger", description=__doc__)
    parser.add_argument("loads", nargs="*", choices=[*LOADS, []], help="all, if none is named")
    names = parser.parse_args().loads or list(LOADS)
    telemetry.setup("benchmarks", TelemetrySettings(log_level="CRITICAL", log_json=False))
    with open_setting() as setting:
        if setting.pgbench is None:
            print("pgbench is not installed (Debian: postgresql-contrib): no reference, no ratios")
        else:
            setting.prepare_reference()
        return uvloop.run(_run(setting, names))


if __name__ == "__main__":
    sys.exit(main())
