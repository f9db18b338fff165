"""Rounds. Placing and counting votes hold the row FOR SHARE; closing, tally and settlement, and
whatever changes a round's memes, hold it FOR UPDATE."""

# ruff: noqa: S608 - what is put into statements are this module's own column lists
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import orjson
from sqlalchemy import text

from memepool_common.db import Session
from memepool_rounds.domain.policy import Policy, policy_of
from memepool_rounds.domain.rounds import RoundState

Lock = Literal["", " for share", " for update"]


@dataclass(frozen=True, slots=True)
class StoredRound:
    """A round as it stands. Its id is the height of the block that opened it."""

    id: int
    block_hash: str
    state: RoundState
    policy: Policy
    opened_at: datetime
    passed_height: int
    closing_height: int | None
    closing_hash: str | None
    closing_at: datetime | None
    finality: str | None
    waited: timedelta
    looked_at: datetime | None
    stopped_reason: str | None
    settlement_txid: str | None


_COLUMNS = (
    "id, block_hash, state, policy, opened_at, passed_height, closing_height, closing_hash,"
    " closing_at, finality, waited, looked_at, stopped_reason, settlement_txid"
)


async def by_ids(
    session: Session, round_ids: Sequence[int], lock: Lock = ""
) -> dict[int, StoredRound]:
    """The rounds that exist of these, locked in the order of their ids."""
    query = f"select {_COLUMNS} from round where id = any(:ids) order by id{lock}"
    found = await session.execute(text(query), {"ids": sorted(set(round_ids))})
    return {row.id: _stored(row) for row in found}


async def by_id(session: Session, round_id: int, lock: Lock = "") -> StoredRound | None:
    """The round, or None."""
    return (await by_ids(session, [round_id], lock)).get(round_id)


async def open_one(session: Session, lock: Lock = "") -> StoredRound | None:
    """The open round, or None. Under a lock, None may also mean that it has just been closed:
    another look will find the next one."""
    query = f"select {_COLUMNS} from round where state = 'open'{lock}"
    row = (await session.execute(text(query))).one_or_none()
    return None if row is None else _stored(row)


async def newest(session: Session, *, below: int | None, limit: int) -> list[StoredRound]:
    """Rounds from the newest down, below an id."""
    query = text(
        f"select {_COLUMNS} from round"
        " where cast(:below as bigint) is null or id < :below order by id desc limit :limit"
    )
    return [_stored(row) for row in await session.execute(query, {"below": below, "limit": limit})]


async def ids_in(session: Session, state: RoundState) -> list[int]:
    """The ids of all rounds in a state, oldest first."""
    query = text("select id from round where state = :state order by id")
    return list((await session.execute(query, {"state": state})).scalars())


async def exists_any(session: Session) -> bool:
    """Whether there has ever been a round."""
    return bool((await session.execute(text("select exists (select from round)"))).scalar_one())


async def insert(
    session: Session, round_id: int, block_hash: str, policy: Policy, now: datetime
) -> None:
    """Open a round. The database allows one open round."""
    await session.execute(
        text(
            "insert into round (id, block_hash, policy, opened_at, passed_height)"
            " values (:id, :block_hash, cast(:policy as jsonb), :now, :id)"
        ),
        {
            "id": round_id,
            "block_hash": block_hash,
            "policy": orjson.dumps(policy.document()).decode(),
            "now": now,
        },
    )


async def pass_over(session: Session, round_id: int, height: int) -> None:
    """Remember that the round has ignored the block at this height."""
    query = text("update round set passed_height = :height where id = :id")
    await session.execute(query, {"id": round_id, "height": height})


async def set_closing(
    session: Session, round_id: int, state: RoundState, height: int, block_hash: str, now: datetime
) -> None:
    """A block ended the round."""
    await session.execute(
        text(
            "update round set state = :state, closing_height = :height, closing_hash = :hash,"
            " closing_at = :now, looked_at = :now where id = :id"
        ),
        {"id": round_id, "state": state, "height": height, "hash": block_hash, "now": now},
    )


async def set_waited(session: Session, round_id: int, waited: timedelta, now: datetime) -> None:
    """How long a closing round has waited, as of now."""
    query = text("update round set waited = :waited, looked_at = :now where id = :id")
    await session.execute(query, {"id": round_id, "waited": waited, "now": now})


async def set_closed(session: Session, round_id: int, state: RoundState, now: datetime) -> None:
    """The round is tallied."""
    query = text("update round set state = :state, closed_at = :now where id = :id")
    await session.execute(query, {"id": round_id, "state": state, "now": now})


async def set_settled(session: Session, round_id: int, state: RoundState, at: datetime) -> None:
    """The round's rewards are in the ledger."""
    query = text(
        "update round set state = :state, settled_at = :at, stopped_reason = null where id = :id"
    )
    await session.execute(query, {"id": round_id, "state": state, "at": at})


async def set_stopped(session: Session, round_id: int, reason: str) -> None:
    """Payments refused to distribute; an admin must look."""
    query = text("update round set stopped_reason = :reason where id = :id")
    await session.execute(query, {"id": round_id, "reason": reason})


async def set_settlement(session: Session, round_id: int, txid: str, at: datetime) -> None:
    """Which transaction settles the round, unless a later fact is known already."""
    query = text(
        "update round set settlement_txid = :txid, settlement_at = :at"
        " where id = :id and (settlement_at is null or settlement_at < :at)"
    )
    await session.execute(query, {"id": round_id, "txid": txid, "at": at})


@dataclass(frozen=True, slots=True)
class ClosingBlock:
    """A round's closing block, and whether the active branch holds it."""

    round_id: int
    height: int
    hash: str
    finality: str | None
    active: bool


async def closing_blocks(session: Session, *, above: int) -> list[ClosingBlock]:
    """Closing blocks that are not final, and all above a height."""
    query = text(
        "select r.id, r.closing_height, r.closing_hash, r.finality,"
        " coalesce(h.state = 'active', false) as active"
        " from round r left join chain_header h on h.hash = r.closing_hash"
        " where r.closing_height is not null"
        " and (r.finality is distinct from 'final' or r.closing_height > :above) order by r.id"
    )
    return [ClosingBlock(*row) for row in await session.execute(query, {"above": above})]


async def set_finality(session: Session, round_id: int, finality: str) -> None:
    """How sure the closing block is."""
    query = text("update round set finality = :finality where id = :id")
    await session.execute(query, {"id": round_id, "finality": finality})


def _stored(row: Any) -> StoredRound:
    values = row._asdict()
    values["state"] = RoundState(values["state"])
    values["policy"] = policy_of(values["policy"])
    return StoredRound(**values)
