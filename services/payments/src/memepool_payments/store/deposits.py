"""Deposit addresses, deposits by outpoint, and the coins that they are."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text

from memepool_common.db import Session

LOST_AFTER = 2
"""Consecutive looks without a pending output, the last with its transaction unknown: it is lost."""

_DUE_ADDRESSES = text(
    "select user_id, key_index, address from deposit_address where address is not null"
    " and (checked_at is null or checked_at < :sweep_before"
    "  or (checked_at < :scan_before and (watched_until > now() or user_id in ("
    "   select d.user_id from deposit d where d.state = 'pending' and d.missed < :lost_after))))"
    " order by checked_at nulls first limit :limit"
)
_KNOWN = text(
    "select d.txid, d.vout from deposit d"
    " join unnest(cast(:txids as text[]), cast(:vouts as int[])) as o(txid, vout)"
    " on d.txid = o.txid and d.vout = o.vout"
)
_SHOWN_AGAIN = text(
    "with shown as (select d.txid, d.vout from deposit d"
    " join unnest(cast(:txids as text[]), cast(:vouts as int[])) as o(txid, vout)"
    " on d.txid = o.txid and d.vout = o.vout where d.state = 'pending' and d.missed > 0"
    " order by d.txid, d.vout for no key update of d)"
    " update deposit d set missed = 0 from shown"
    " where d.txid = shown.txid and d.vout = shown.vout"
)
_ABSENT = text(
    "select d.txid, max(d.missed) as missed from deposit d"
    " where d.user_id = any(cast(:users as uuid[]))"
    " and d.state = 'pending' and d.missed < :lost_after and (d.txid, d.vout) not in ("
    "  select * from unnest(cast(:txids as text[]), cast(:vouts as int[])))"
    " group by d.txid order by d.txid"
)
_MISS = text(
    "with absent as (select txid, vout from deposit where txid = :txid and state = 'pending'"
    " and user_id = any(cast(:users as uuid[])) and (txid, vout) not in ("
    "  select * from unnest(cast(:txids as text[]), cast(:vouts as int[])))"
    " order by txid, vout for no key update)"
    " update deposit d set missed = :missed from absent"
    " where d.txid = absent.txid and d.vout = absent.vout and d.state = 'pending'"
)
_MOVE = text(
    "with moved as (select txid, vout from deposit"
    " where state = :before and block_hash = any(:hashes)"
    " order by txid, vout for no key update)"
    " update deposit d set state = :after, proof_asked_at = null from moved"
    " where d.txid = moved.txid and d.vout = moved.vout and d.state = :before"
)
_INSERT = text(
    "insert into deposit (txid, vout, user_id, amount) values (:txid, :vout, :user_id, :amount)"
    " on conflict do nothing"
)
_INSERT_COIN = text(
    "insert into coin (txid, vout, amount, key_index, state)"
    " values (:txid, :vout, :amount, :key_index, 'pending') on conflict do nothing"
)
_DUE_PROOFS = text(
    "select d.txid from deposit d where d.state <> 'credited'"
    " and (d.proof_asked_at is null or d.proof_asked_at < :sweep_before"
    "  or (d.proof_asked_at < :before and d.missed < :lost_after))"
    " group by d.txid order by min(d.proof_asked_at) nulls first limit :limit"
)
_LOCK = text(
    "select txid, vout, user_id, amount, state, generation, block_hash, block_height from deposit"
    " where txid = :txid order by vout for update"
)
_SETTLE = text(
    "update deposit set state = :state, generation = :generation, block_hash = :block_hash,"
    " block_height = :block_height, missed = 0,"
    " credited_at = case when :state = 'credited' then coalesce(credited_at, now()) end"
    " where txid = :txid and vout = :vout"
)
_COIN = text("update coin set state = :state where txid = :txid and vout = :vout")


Outpoint = tuple[str, int]
"""Transaction and output."""


class Address(NamedTuple):
    """A user's deposit address; `address` is None until it has been derived."""

    user_id: UUID
    key_index: int
    address: str | None


class Deposit(NamedTuple):
    """A deposit as it is settled."""

    txid: str
    vout: int
    user_id: UUID
    amount: int
    state: str
    generation: int
    block_hash: str | None
    block_height: int | None

    @property
    def id(self) -> str:
        """Its outpoint, as clients see it."""
        return f"{self.txid}:{self.vout}"


async def watch(session: Session, user_id: UUID, until: datetime) -> Address:
    """The user's address, watched for a while from now on."""
    values = {"user_id": user_id, "until": until}
    returning = " returning user_id, key_index, address"
    update = "update deposit_address set watched_until = :until where user_id = :user_id"
    row: Any = (await session.execute(text(update + returning), values)).one_or_none()
    if row is None:  # an insert that gives way would use up a number of the sequence each time
        insert = (
            "insert into deposit_address (user_id, watched_until) values (:user_id, :until)"
            " on conflict (user_id) do update set watched_until = excluded.watched_until"
        )
        row = (await session.execute(text(insert + returning), values)).one()
    return Address(*row)


async def name_address(session: Session, user_id: UUID, address: str) -> None:
    """Remember the address that was derived."""
    query = "update deposit_address set address = :address where user_id = :user_id"
    await session.execute(text(query), {"user_id": user_id, "address": address})


async def due_addresses(
    session: Session, *, scan_before: datetime, sweep_before: datetime, limit: int
) -> list[Address]:
    """Addresses whose turn it is: watched or waiting for a block soon, any other now and then."""
    values = {
        "scan_before": scan_before,
        "sweep_before": sweep_before,
        "lost_after": LOST_AFTER,
        "limit": limit,
    }
    return [Address(*row) for row in await session.execute(_DUE_ADDRESSES, values)]


async def checked(session: Session, users: Sequence[UUID]) -> None:
    """The source has been asked about these users' addresses."""
    query = "update deposit_address set checked_at = now() where user_id = any(:users)"
    await session.execute(text(query), {"users": list(users)})


async def known(session: Session, shown: Sequence[Outpoint]) -> set[Outpoint]:
    """Those of the outpoints that are deposits; none of them is missed any more."""
    columns = _columns(shown)
    await session.execute(_SHOWN_AGAIN, columns)
    return {(row.txid, row.vout) for row in await session.execute(_KNOWN, columns)}


async def absent(
    session: Session, users: Sequence[UUID], shown: Sequence[Outpoint]
) -> dict[str, int]:
    """Transactions with pending deposits of these users that the source did not show.

    By how many consecutive looks have missed them before this one; lost ones are left out.
    """
    values = {"users": list(users), "lost_after": LOST_AFTER} | _columns(shown)
    return {row.txid: row.missed for row in await session.execute(_ABSENT, values)}


async def miss(
    session: Session, txid: str, users: Sequence[UUID], shown: Sequence[Outpoint], missed: int
) -> None:
    """So many consecutive looks have missed the transaction's outputs to these users."""
    values = {"txid": txid, "users": list(users), "missed": missed} | _columns(shown)
    await session.execute(_MISS, values)


def _columns(outpoints: Sequence[Outpoint]) -> dict[str, list[Any]]:
    return {"txids": [txid for txid, _ in outpoints], "vouts": [vout for _, vout in outpoints]}


async def add(session: Session, address: Address, txid: str, vout: int, amount: int) -> None:
    """A new outpoint that pays the address."""
    values = {
        "txid": txid,
        "vout": vout,
        "amount": amount,
        "user_id": address.user_id,
        "key_index": address.key_index,
    }
    await session.execute(_INSERT, values)
    await session.execute(_INSERT_COIN, values)


async def due_proofs(
    session: Session, *, before: datetime, sweep_before: datetime, limit: int
) -> list[str]:
    """Transactions that wait for a proof, longest ago first; lost ones are asked about seldom."""
    values = {
        "before": before,
        "sweep_before": sweep_before,
        "lost_after": LOST_AFTER,
        "limit": limit,
    }
    return list((await session.execute(_DUE_PROOFS, values)).scalars())


async def proof_asked(session: Session, txid: str) -> None:
    """The source has been asked for the transaction's proof."""
    query = "update deposit set proof_asked_at = now() where txid = :txid and state <> 'credited'"
    await session.execute(text(query), {"txid": txid})


async def lock_tip(session: Session) -> int:
    """Keep the chain from changing until this transaction ends; returns its height."""
    query = text("select height from chain_tip for share")
    return int((await session.execute(query)).scalar_one())


async def lock(session: Session, txid: str) -> list[Deposit]:
    """The transaction's deposits, locked."""
    return [Deposit(*row) for row in await session.execute(_LOCK, {"txid": txid})]


async def settle(session: Session, deposit: Deposit) -> None:
    """Write a deposit's new state, generation and block, and whether its coin is free."""
    coin = "pending" if deposit.state == "pending" else "free"
    await session.execute(_SETTLE, deposit._asdict())
    await session.execute(_COIN, {"txid": deposit.txid, "vout": deposit.vout, "state": coin})


async def disconnect(session: Session, block_hashes: Sequence[str]) -> None:
    """The blocks of these deposits have left the chain: look for them in the new branch."""
    await session.execute(
        _MOVE, {"before": "credited", "after": "disconnected", "hashes": list(block_hashes)}
    )


async def reconnect(session: Session, block_hashes: Sequence[str]) -> None:
    """The blocks of these deposits are back before anything was reversed."""
    await session.execute(
        _MOVE, {"before": "disconnected", "after": "credited", "hashes": list(block_hashes)}
    )


async def mark_block(session: Session, height: int) -> None:
    """What is posted from now on is younger than the block at this height."""
    query = (
        "insert into block_mark (height, journal_id)"
        " values (:height, (select coalesce(max(id), 0) from journal)) on conflict do nothing"
    )
    await session.execute(text(query), {"height": height})
