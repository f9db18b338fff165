"""Counted votes per second through the whole saga, against pgbench in the same run.

    python -m benchmarks.rounds.saga [--seconds 10] [--clients 256] [--cells rate,latency,kill]

Real servers and one process each: PostgreSQL (fsync on), RabbitMQ (quorum queues, the users and
rights of production), rounds' API, rounds' worker, payments' worker, and the clients, who speak
HTTP straight to rounds' API. A cell starts with empty databases, ends with every vote decided, and
then nothing may be wrong. Exit code 1 if something is, or if a goal is missed.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import orjson
import psycopg

from benchmarks.rounds.clients import Order
from benchmarks.rounds.exactness import settle, wrongs
from benchmarks.rounds.site import PROCESSES, Site, open_site
from benchmarks.rounds.world import fund, open_round
from memepool_common.db import Database
from memepool_common.testing import TestIssuer, stub_auth

RATIO_GOAL = 1.0
P50_MS_GOAL, P99_MS_GOAL = 30.0, 60.0
LATENCY_RATE = 1_000.0
MIDDLE = (0.2, 0.9)
"""The part of a run that is measured: first, processes make connections and plans."""
VOTERS, POOR_VOTERS = 1_000, 20
KILLS_PER_PROCESS = 2
DOWN_S = 0.5
KILL_SECONDS_FACTOR = 3  # processes take seconds to start again
_EVENTS = (
    "select event_type, count(*) from outbox"
    " where event_type like '%vote.%' or event_type like '%stake.%' group by 1"
)
_COUNTED = "select coalesce(sum(stakes), 0)::bigint from submission"
# When the transaction that made each row's newest version committed: that counted, or rejected, it.
_DECIDED = "select id::text, extract(epoch from pg_xact_commit_timestamp(xmin))::float8 from vote"


@dataclass
class Cell:
    """What one run showed."""

    name: str
    votes: int
    rate: float
    used_us: dict[str, float]
    report: dict[str, Any]
    wrong: list[str]
    events: dict[str, int]
    placed_to_counted_ms: list[float]
    placed_to_answered_ms: list[float]


async def run_cell(
    site: Site, options: argparse.Namespace, *, rate: float | None, kill: bool
) -> Cell:
    """Drive the clients once; measure the middle of it."""
    issuer = TestIssuer()
    async with stub_auth(issuer) as auth_url:
        planned_s = options.seconds * (KILL_SECONDS_FACTOR if kill else 1)
        order = await prepare(site, issuer, options, rate, planned_s)
        async with site.running(auth_url):
            clients = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.rounds.clients"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=2**30,
            )
            assert clients.stdin is not None
            assert clients.stdout is not None
            clients.stdin.write(orjson.dumps(asdict(order)) + b"\n")
            await clients.stdout.readline()
            used: dict[str, float] = {}
            counted, seconds = 0, 1.0
            if kill:
                await kill_all(site, order.seconds)
            else:
                used, counted, seconds = await measure(site, clients.pid, order.seconds)
            report = orjson.loads(await clients.stdout.readline())
            await clients.wait()
            problem = []
            try:
                await settle(site)
            except TimeoutError:
                problem.append("not all votes were decided: " + site.said())
            wrong = await wrongs(site, [vote for vote, *_ in report["votes"]])
    decided = decided_s(site)
    votes = report["votes"]
    began_s = min(due for _, due, _ in votes)
    first_s, last_s = (began_s + share * order.seconds for share in MIDDLE)
    timed = votes if kill else [vote for vote in votes if first_s <= vote[1] <= last_s]
    return Cell(
        name="kill" if kill else "rate" if rate is None else f"{rate:.0f}/s",
        votes=len(votes),
        rate=counted / seconds,
        used_us={name: each / max(counted, 1) * 1e6 for name, each in used.items()},
        report=report,
        wrong=problem + wrong + report["wrong"],
        events=events_of(site),
        placed_to_counted_ms=[
            (decided[vote] - due) * 1e3 for vote, due, _ in timed if vote in decided
        ],
        placed_to_answered_ms=[(at - due) * 1e3 for _, due, at in timed],
    )


async def prepare(
    site: Site,
    issuer: TestIssuer,
    options: argparse.Namespace,
    rate: float | None,
    seconds: float,
) -> Order:
    """An open round, voters with money, voters without."""
    rounds, payments = (Database.connect(site.settings[name]) for name in ("rounds", "payments"))
    voters = [issuer.principal() for _ in range(VOTERS + POOR_VOTERS)]
    await fund(payments, [voter.user_id for voter in voters[:VOTERS]])
    memes = await open_round(rounds)
    await rounds.close()
    await payments.close()
    tokens = [issuer.token(voter) for voter in voters]
    return Order(
        port=site.port,
        conninfo=site.conninfo("rounds"),
        memes=[str(meme) for meme in memes],
        tokens=tokens[:VOTERS],
        poor=tokens[VOTERS:],
        clients=options.clients,
        seconds=seconds,
        rate=rate,
    )


async def measure(
    site: Site, clients_pid: int, seconds: float
) -> tuple[dict[str, float], int, float]:
    """Processor seconds by process, votes counted, and seconds, of the middle."""
    with psycopg.connect(site.conninfo("rounds"), autocommit=True) as connection:

        def look() -> tuple[dict[str, float], int, float]:
            row = connection.execute(_COUNTED).fetchone()
            return site.used_s(clients_pid), int(row[0]) if row else 0, time.monotonic()

        await asyncio.sleep(seconds * MIDDLE[0])
        used, counted, at = look()
        await asyncio.sleep(seconds * (MIDDLE[1] - MIDDLE[0]))
        used_then, counted_then, then = look()
    return {n: used_then[n] - used[n] for n in used}, counted_then - counted, then - at


async def kill_all(site: Site, seconds: float) -> None:
    """SIGKILL to each process in turn, in the middle of everything; it starts again a bit later."""
    await asyncio.sleep(seconds * 0.1)
    pause_s = seconds * 0.8 / (KILLS_PER_PROCESS * len(PROCESSES)) - DOWN_S
    for name in PROCESSES * KILLS_PER_PROCESS:
        site.kill(name)
        await asyncio.sleep(DOWN_S)
        site.start(name)
        await asyncio.sleep(max(pause_s, 0))


def decided_s(site: Site) -> dict[str, float]:
    """When each vote was counted or rejected, in seconds since 1970."""
    with psycopg.connect(site.conninfo("rounds")) as connection:
        return dict(connection.execute(_DECIDED).fetchall())


def events_of(site: Site) -> dict[str, int]:
    """How many events of each kind told of the votes."""
    found: dict[str, int] = {}
    for service in ("rounds", "payments"):
        with psycopg.connect(site.conninfo(service)) as connection:
            for name, count in connection.execute(_EVENTS).fetchall():
                found[".".join(name.split(".")[2:4])] = count
    return found


def show(cell: Cell, pgbench: tuple[float, float]) -> bool:
    """Print the cell; whether it met its goals."""
    good = not cell.wrong
    reference = sum(pgbench) / 2
    print(f"\n== {cell.name}: {cell.votes:,} votes, {cell.report['repeated']} repeated requests")
    if cell.name == "rate":
        ratio = cell.rate / reference
        good = good and ratio >= RATIO_GOAL
        print(f"pgbench TPC-B-like: {pgbench[0]:,.0f} before, {pgbench[1]:,.0f} after")
        print(f"counted votes per second: {cell.rate:,.0f}; ratio {ratio:.2f} (goal {RATIO_GOAL})")
    counted, answered = map(_p50_p99, (cell.placed_to_counted_ms, cell.placed_to_answered_ms))
    print(f"placed to answered, ms: p50 {answered[0]:.1f}, p99 {answered[1]:.1f}")
    print(f"placed to counted, ms:  p50 {counted[0]:.1f}, p99 {counted[1]:.1f}")
    if cell.name.endswith("/s"):
        good = good and counted[0] < P50_MS_GOAL and counted[1] < P99_MS_GOAL
        print(f"                  goal: p50 {P50_MS_GOAL:.0f}, p99 {P99_MS_GOAL:.0f}")
    if cell.used_us:
        print("processor time per counted vote, us:")
        print("  " + ", ".join(f"{name} {each:.0f}" for name, each in cell.used_us.items()))
    print("events: " + ", ".join(f"{count:,} {name}" for name, count in cell.events.items()))
    if cell.report["refused"]:
        print(f"asked again after: {cell.report['refused']}")
    for each in cell.wrong:
        print(f"WRONG: {each}")
    print("as it should be" if good else "NOT AS IT SHOULD BE")
    return good


def _p50_p99(values_ms: Sequence[float]) -> tuple[float, float]:
    cuts = quantiles(values_ms, n=100)
    return cuts[49], cuts[98]


async def run(options: argparse.Namespace) -> int:
    """Every cell on servers of its own."""
    good = True
    for name in options.cells.split(","):
        rate = LATENCY_RATE if name == "latency" else None
        with (
            tempfile.TemporaryDirectory() as folder,
            open_site(Path(folder), options.scale) as site,
        ):
            before = site.transactions_per_s() if name == "rate" else 0.0
            cell = await run_cell(site, options, rate=rate, kill=name == "kill")
            after = site.transactions_per_s() if name == "rate" else 0.0
            good = show(cell, (before, after)) and good
    return 0 if good else 1


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--scale", type=int, default=50)
    parser.add_argument("--cells", default="rate,latency,kill")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
