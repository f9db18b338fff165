"""Measures the ledger beside pgbench's TPC-B-like script, on one private and durable PostgreSQL.

Only ratios within one run mean something: the machine is never as quiet as one thinks. Exit code 1
when a goal is missed; without pgbench there is no reference, and nothing is judged.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable

import uvloop

from benchmarks.ledger import loads, over_http
from benchmarks.ledger.loads import Latency, People
from benchmarks.ledger.setting import CLIENTS, SCALE, Cost, Meter, Setting, open_setting
from memepool_common import telemetry
from memepool_common.db import Database
from memepool_common.settings import TelemetrySettings
from memepool_payments.use_cases import reconciliation, sealing

REWARDS = 10_000
ROUND = "900000"
OPEN_LOOP_SHARE = 0.4


class Report:
    """Prints one line for each load, and remembers which goals were missed."""

    def __init__(self, setting: Setting, seconds: int) -> None:
        self._setting = setting
        self._seconds = seconds
        self.reference: float | None = None
        self.missed: list[str] = []

    async def measure_reference(self) -> None:
        """The yardstick, measured again for each group of loads: machines change by the minute."""
        if self._setting.pgbench is not None:
            meter = Meter(self._setting)
            rate = await asyncio.to_thread(self._setting.reference, self._seconds)
            cost = meter.per(int(rate * self._seconds))
            name = f"pgbench TPC-B-like, scale {SCALE}, {CLIENTS} clients"
            print(f"{name:<52}{rate:>9,.0f}/s  ratio 1.00  postgres {cost.postgres_us:.0f} us")
            self.reference = rate

    def line(
        self, name: str, rate: float, latency: Latency | None, cost: Cost | None, goal: float | None
    ) -> None:
        """One result; `goal` is the least ratio to the reference."""
        said = f"{name:<52}{rate:>9,.0f}/s"
        if self.reference:
            ratio = rate / self.reference
            said += f"  ratio {ratio:4.2f}"
            if goal is not None:
                said += f" (goal {goal})"
                self.judge(name, ok=ratio >= goal)
        if latency is not None:
            said += f"  p50 {latency.p50_ms:.1f} p99 {latency.p99_ms:.1f} ms"
        if cost is not None:
            said += f"  python {cost.python_us:.0f} postgres {cost.postgres_us:.0f} us"
        print(said)

    def judge(self, name: str, *, ok: bool) -> None:
        """Whether a goal was reached."""
        if not ok:
            self.missed.append(name)


async def _posting(report: Report, setting: Setting, database: Database, people: People) -> None:
    async def run(name: str, goal: float | None, callers: int, *, hot: bool = False) -> float:
        meter = Meter(setting)
        latency = await loads.closed_loop(
            database, people, callers=callers, seconds=SECONDS, hot=hot
        )
        rate = latency.operations / SECONDS
        report.line(name, rate, latency, meter.per(latency.operations), goal)
        return rate

    await report.measure_reference()
    await run("posting, 32 callers", 2.0, 32)
    uniform = await run("posting, 256 callers", 3.0, 256)
    hot = await run("posting to one hot account, 256 callers", None, 256, hot=True)
    print(f"{'hot / uniform':<52}{hot / uniform:>9.2f}  (goal 0.8)")
    report.judge("hot / uniform", ok=hot >= 0.8 * uniform)
    offered = OPEN_LOOP_SHARE * (report.reference or uniform / 3)
    latency = await loads.open_loop(database, people, per_second=offered, seconds=SECONDS)
    name = f"open loop, hot account, {offered:,.0f}/s offered, p99 <= 10 ms"
    report.line(name, latency.operations / SECONDS, latency, None, None)
    report.judge(name, ok=latency.p99_ms <= 10)


async def _http(report: Report, setting: Setting, database: Database, people: People) -> None:
    await report.measure_reference()
    latency, cost = await over_http.measure(setting, database, people, callers=64, seconds=SECONDS)
    rate = latency.operations / SECONDS
    report.line("POST /payments/transfer, one process, 64 callers", rate, latency, cost, 0.5)


async def _distribution(
    report: Report, _setting: Setting, database: Database, people: People
) -> None:
    await report.measure_reference()
    await loads.prepare_round(database, people, ROUND, REWARDS)
    await loads.settle_server(database)
    alone = await loads.closed_loop(database, people, callers=32, seconds=SECONDS)
    others = asyncio.create_task(
        loads.closed_loop(database, people, callers=32, seconds=SECONDS, hot=False)
    )
    took_s = await loads.pay_round(database)
    beside = await others
    report.line(f"distribution of {REWARDS:,} rewards", REWARDS / took_s, None, None, 5.0)
    report.line("  others, before it", alone.operations / SECONDS, alone, None, None)
    report.line("  others, around it", beside.operations / SECONDS, beside, None, None)
    report.judge(
        "others keep half of their throughput", ok=2 * beside.operations >= alone.operations
    )
    report.judge("others' p99 under 60 ms", ok=beside.p99_ms < 60)


async def _reconciliation(
    report: Report, setting: Setting, database: Database, _people: People
) -> None:
    began = asyncio.get_running_loop().time()
    broken = await reconciliation.reconcile(database)
    took_s = asyncio.get_running_loop().time() - began
    assert set(broken) <= {"coins_equal_what_is_owed"}, broken  # the money has no coins here
    async with database.read() as session:
        entries = (await session.exec_driver_sql("select count(*) from entry")).scalar_one()
    print(f"{f'reconciliation of {entries:,} entries':<52}{entries / took_s:>9,.0f}/s")
    print(f"{'  10 million would take':<52}{took_s / entries * 1e7:>9.1f} s (goal 15)")
    report.judge("reconciliation", ok=took_s / entries * 1e7 <= 15)
    meter = Meter(setting)
    began = asyncio.get_running_loop().time()
    while await sealing.seal(database):
        pass
    took_s = asyncio.get_running_loop().time() - began
    async with database.read() as session:
        journals = (await session.exec_driver_sql("select count(*) from journal")).scalar_one()
    cost = meter.per(journals)
    report.line("sealing, journals", journals / took_s, None, cost, None)
    assert (await sealing.verify(database)).problem is None


Load = Callable[[Report, Setting, Database, People], Awaitable[None]]
LOADS: dict[str, Load] = {
    "posting": _posting,
    "distribution": _distribution,
    "http": _http,
    "reconciliation": _reconciliation,
}
SECONDS = 5


async def _run(setting: Setting, names: list[str]) -> int:
    database = Database.connect(setting.database)
    report = Report(setting, SECONDS)
    try:
        people = await loads.populate(database)
        await loads.settle_server(database)
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
