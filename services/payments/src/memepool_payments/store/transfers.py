"""Transfers: one statement posts a batch, announces it and writes its audit lines."""

from collections.abc import Sequence
from typing import NamedTuple

from memepool_common.arrays import bigints, byteas, texts, uuids
from memepool_common.db import Session, Statement, run
from memepool_common.events import outbox
from memepool_payments.domain.journal import NewTransfer, Posting

_POST = (
    "select * from post_transfers(%b::uuid[], %b::uuid[], %b::bigint[], %b::bigint[],"
    " %b::bigint[], %b::text[], %b::text[], %b::bytea[], %b::bigint, %b::bigint, %b::int,"
    " %b::uuid[], %b::text)"
)


class Rules(NamedTuple):
    """What holds for every transfer: its fee, and the most that a user may send by transfers within
    an hour of the clock, in satoshis and times."""

    fee: int
    sent_max: int
    sends_max: int


async def post(
    session: Session | Statement, batch: Sequence[NewTransfer], rules: Rules
) -> list[Posting]:
    """Post transfers whose keys are all different; one answer for each, in order. The results equal
    those of posting them one after the other."""
    senders, recipients, sources, targets, amounts, memos, keys, hashes = zip(*batch, strict=True)
    told = outbox.written_in_sql(session, len(batch))
    rows = await run(
        session,
        _POST,
        (
            uuids(senders),
            uuids(recipients),
            bigints(sources),
            bigints(targets),
            bigints(amounts),
            texts(memos),
            texts(keys),
            byteas(hashes),
            *rules,
            uuids(told["event_ids"]),
            told["traceparent"],
        ),
    )
    return [Posting._make(row) for row in rows]
