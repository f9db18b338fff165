"""Tells the terminal what happens to the rounds, from the same events that the services get."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from memepool_common.events import Bus, Event
from memepool_common.events.envelope import NotAnEventError, from_message

QUEUE = "sandbox.narrator"
FOLD_SECONDS = 1.0
RECEIVE_MAX = 256
_PREFIX = "memepool."
_KEYS = (
    "rounds.round.opened.v1",
    "rounds.meme.submitted.v1",
    "rounds.meme.withdrawn.v1",
    "rounds.vote.counted.v1",
    "rounds.vote.rejected.v1",
    "rounds.round.closed.v1",
    "rounds.round.settled.v1",
    "rounds.block.disconnected.v1",
    "payments.deposit.credited.v1",
    "payments.deposit.reversed.v1",
    "payments.distribution.stopped.v1",
)


def topology() -> dict[str, list[str]]:
    """The narrator's queue."""
    return {QUEUE: sorted(_KEYS)}


async def narrate(bus: Bus, say: Callable[[str], None], stopping: asyncio.Event) -> None:
    """Say a line for each thing that happens, votes folded to one line a second and round."""
    votes = _Votes()
    async with bus.subscribe(QUEUE) as inlet:
        while not stopping.is_set():
            received = await inlet.receive(RECEIVE_MAX, FOLD_SECONDS)
            for delivery in received:
                try:
                    event = from_message(delivery.message)
                except NotAnEventError:
                    continue
                votes.take(event)
                line = describe(event)
                if line:
                    for earlier in votes.flush():
                        say(earlier)
                    say(_stamped(event.time, line))
            await inlet.ack(received)
            for line in votes.flush():
                say(line)


def describe(event: Event) -> str | None:
    """The line for an event, or None for what is told otherwise."""
    data: dict[str, Any] = event.data
    short = str(data.get("contentId", ""))[-12:]
    match event.type.removeprefix(_PREFIX).removesuffix(".v1"):
        case "rounds.round.opened":
            return f"round {data['roundId']}: opened by block {data['blockHash'][:16]}…"
        case "rounds.meme.submitted":
            return f"round {data['roundId']}: meme …{short} entered"
        case "rounds.meme.withdrawn":
            return f"round {data['roundId']}: meme …{short} left ({data['reason']})"
        case "rounds.round.closed":
            return (
                f"round {data['roundId']}: closed by block {data['closingBlockHeight']}, "
                f"{data['countedVotes']} votes, pot {data['pot']} sat = fee {data['fee']} "
                f"+ rewards {sum(line['amount'] for line in data['rewards'])} "
                f"+ carried over {data['carryOut']}"
            )
        case "rounds.round.settled":
            return f"round {data['roundId']}: settled, every reward is in the ledger"
        case "rounds.block.disconnected":
            return f"chain: block {data['height']} {data['hash'][:16]}… left the active chain"
        case "payments.deposit.credited":
            return f"deposit: {data['amount']} sat credited to user …{data['userId'][-12:]}"
        case "payments.deposit.reversed":
            return f"deposit: {data['amount']} sat of user …{data['userId'][-12:]} taken back"
        case "payments.distribution.stopped":
            return f"round {data['roundId']}: DISTRIBUTION STOPPED: {data['reason']}"
    return None


class _Votes:
    """Counts votes between two lines."""

    def __init__(self) -> None:
        self._counted: Counter[str] = Counter()
        self._sats: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()

    def take(self, event: Event) -> None:
        kind = event.type.removeprefix(_PREFIX)
        if kind == "rounds.vote.counted.v1":
            self._counted[event.data["roundId"]] += len(event.data["voteId"])
            self._sats[event.data["roundId"]] += sum(event.data["amount"])
        elif kind == "rounds.vote.rejected.v1":
            self._rejected[event.data["roundId"]] += len(event.data["voteId"])

    def flush(self) -> list[str]:
        now = datetime.now(UTC)
        lines = [
            _stamped(now, f"round {round_id}: {count} votes counted, {self._sats[round_id]} sat")
            for round_id, count in self._counted.items()
        ]
        lines += [
            _stamped(now, f"round {round_id}: {count} votes rejected")
            for round_id, count in self._rejected.items()
        ]
        self._counted.clear()
        self._sats.clear()
        self._rejected.clear()
        return lines


def _stamped(instant: datetime, line: str) -> str:
    return f"{instant.astimezone():%H:%M:%S}  {line}"
