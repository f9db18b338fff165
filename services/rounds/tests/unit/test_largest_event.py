"""The largest events that a round can cause fit the limits that every consumer has."""

from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import UUID

from memepool_common.events.envelope import (
    PACKED_BYTES_MAX,
    from_message,
    pack_data,
    to_message,
)
from memepool_common.ids import uuid7
from memepool_rounds import events
from memepool_rounds.api.backlog import WAITING_MAX
from memepool_rounds.domain.policy import STANDARD_1

LINES, VOID = 20_000, WAITING_MAX


def test_twenty_thousand_rewards_and_a_hundred_thousand_void_votes_are_one_event() -> None:
    reward = {"amount": 21 * 10**14, "reason": "backers:1-20000"}
    closed = events.RoundClosedData.model_validate(
        {
            "roundId": "840000",
            "closingBlockHeight": 840_001,
            "closingBlockHash": "00" * 32,
            "policy": STANDARD_1.document(),
            "countedVotes": 1,
            **dict.fromkeys(("stakes", "carryIn", "pot", "fee", "carryOut"), 0),
            **{name: [] for name in ("carrySources", "ranking", "withdrawn")},
            "rewards": [reward | {"recipient": UUID(int=n)} for n in range(LINES)],
            "roots": {"votes": "00" * 32, "rewards": "00" * 32},
            "void": [uuid7() for _ in range(VOID)],
            "closedAt": datetime(2026, 1, 1, tzinfo=UTC),
            "bundleSha256": "00" * 32,
        }
    )
    row = SimpleNamespace(
        event_id=uuid7(),
        event_type=events.ROUND_CLOSED,
        subject="840000",
        version=1,
        audience="public",
        payload=pack_data(closed),
        traceparent=None,
        occurred_at=closed.closed_at,
    )
    message = to_message(row, "/rounds")
    assert len(message.body) < PACKED_BYTES_MAX / 2
    data = from_message(message).data
    assert (len(data["rewards"]), len(data["void"])) == (LINES, VOID)
