"""What rounds reads of others' events is what their published schemas promise."""

import json
from pathlib import Path
from uuid import UUID

import pytest

from memepool_common.web.model import WireModel
from memepool_rounds import consumers, events

CONTRACTS = Path(__file__).parents[4] / "contracts" / "events"


class StakesHeld(WireModel):
    """What the SQL function `count_votes` reads."""

    vote_id: list[UUID]


READS: dict[str, type[WireModel]] = {
    "memepool.payments.stake.held.v1": StakesHeld,
    "memepool.payments.stake.rejected.v1": consumers.StakesRejected,
    "memepool.payments.stake.refunded.v1": consumers.StakesRefunded,
    "memepool.payments.rewards.distributed.v1": consumers.Distributed,
    "memepool.payments.distribution.stopped.v1": consumers.Stopped,
    "memepool.payments.settlement.updated.v1": consumers.SettlementUpdated,
    "memepool.content.meme.published.v1": consumers.MemePublished,
    "memepool.content.meme.removed.v1": consumers.MemeRemoved,
    "memepool.auth.user.registered.v1": consumers.User,
    "memepool.auth.user.updated.v1": consumers.User,
}


def test_every_event_that_is_consumed_is_checked() -> None:
    consumed = {name for each in consumers.SUBSCRIPTIONS for name in each.handlers}
    assert consumed == set(READS)
    assert not consumed & set(events.EVENTS)


@pytest.mark.parametrize("name", READS)
def test_what_is_read_is_promised_in_the_same_shape(name: str) -> None:
    promised = json.loads((CONTRACTS / f"{name}.schema.json").read_text())
    read = READS[name].model_json_schema()
    for field in read["required"]:
        assert field in promised["required"]
        shapes = [each["properties"][field] for each in (promised, read)]
        types = [(shape.get("type"), shape.get("format"), shape.get("items")) for shape in shapes]
        assert types[0] == types[1], field
