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
_VOTES_COUNTED = "rounds.vote.counted.v1"
_VOTES_REJECTED = "rounds.vote.rejected.v1"


def _closed(data: dict[str, Any]) -> str:
    rewards_sats = sum(line["amount"] for line in data["rewards"])
    return (
        f"round {data['roundId']}: closed by block {data['closingBlockHeight']}, "
        f"{data['countedVotes']} votes, pot {data['pot']} sat = fee {data['fee']} "
        f"+ rewards {rewards_sats} + carried over {data['carryOut']}"
    )


_LINES: dict[str, Callable[[dict[str, Any]], str]] = {
    "rounds.round.opened.v1": lambda data: (
        f"round {data['roundId']}: opened by block {data['blockHash'][:16]}…"
    ),
    "rounds.meme.submitted.v1": lambda data: (
        f"round {data['roundId']}: meme …{data['contentId'][-12:]} entered"
    ),
    "rounds.meme.withdrawn.v1": lambda data: (
        f"round {data['roundId']}: meme …{data['contentId'][-12:]} left ({data['reason']})"
    ),
    "rounds.round.closed.v1": _closed,
    "rounds.round.settled.v1": lambda data: (
        f"round {data['roundId']}: settled, every reward is in the ledger"
    ),
    "rounds.block.disconnected.v1": lambda data: (
        f"chain: block {data['height']} {data['hash'][:16]}… left the active chain"
    ),
    "payments.deposit.credited.v1": lambda data: (
        f"deposit: {data['amount']} sat credited to user …{data['userId'][-12:]}"
    ),
    "payments.deposit.reversed.v1": lambda data: (
        f"deposit: {data['amount']} sat of user …{data['userId'][-12:]} taken back"
    ),
    "payments.distribution.stopped.v1": lambda data: (
        f"round {data['roundId']}: DISTRIBUTION STOPPED: {data['reason']}"
    ),
}


def topology() -> dict[str, list[str]]:
    """The narrator's queue."""
    return {QUEUE: sorted((*_LINES, _VOTES_COUNTED, _VOTES_REJECTED))}


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
    tell = _LINES.get(event.type.removeprefix(_PREFIX))
    return tell(event.data) if tell else None


class _Votes:
    """Counts votes between two lines."""

    def __init__(self) -> None:
        self._counted: Counter[str] = Counter()
        self._sats: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()

    def take(self, event: Event) -> None:
        kind = event.type.removeprefix(_PREFIX)
        if kind == _VOTES_COUNTED:
            self._counted[event.data["roundId"]] += len(event.data["voteId"])
            self._sats[event.data["roundId"]] += sum(event.data["amount"])
        elif kind == _VOTES_REJECTED:
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
