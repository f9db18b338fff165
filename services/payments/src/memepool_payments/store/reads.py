"""Reads that are one query: balances, history, deposits, reserves, fees."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text

from memepool_common.db import Session
from memepool_payments.store.deposits import LOST_AFTER

# Credits of the last K blocks are those posted after the mark of block tip - K + 1; without that
# mark, all of them.
_BALANCE = text(
    "select b.posted as available,"
    " b.posted - coalesce((select sum(v.amount) from movement v where v.target = a.id"
    "  and v.journal_id > coalesce((select m.journal_id from block_mark m"
    "   where m.height <= (select height from chain_tip) - :maturity_blocks + 1"
    "   order by m.height desc limit 1), 0)), 0) as mature,"
    " coalesce((select sum(s.amount) from payment_round r"
    "  join stake s on s.round_id = r.round_id and s.voter_id = :user_id and s.state = 'held'"
    "  where r.state <> 'paid'), 0)"
    " + coalesce((select h.posted from balance h join account ha on ha.id = h.account_id"
    "  where ha.owner_id = :user_id and ha.kind = 'user_held'), 0) as held,"
    " coalesce((select sum(d.amount) from deposit d where d.user_id = :user_id"
    "  and d.state = 'pending' and d.missed < :lost_after), 0) as pending"
    " from account a join balance b on b.account_id = a.id"
    " where a.owner_id = :user_id and a.kind = 'user_available'"
)
# The fee line of a transfer is a transaction of its own in its sender's history, and so is what
# comes back of a withdrawal.
_KIND = (
    "case when e.note = 'transfer_fee' then 'fee'"
    " when j.kind = 'withdrawal' and e.amount > 0 then 'withdrawal_refund' else j.kind end"
)
_HISTORY = text(
    "select m.* from account a cross join lateral ("  # noqa: S608 - a constant
    f" select e.journal_id, e.line, e.amount, e.note, {_KIND} as kind, j.round_id, j.sender_id,"
    "  j.recipient_id, j.memo, j.txid, j.created_at"
    " from entry e join journal j on j.id = e.journal_id"
    " where e.account_id = a.id"
    "  and (cast(:journal_id as bigint) is null"
    "   or (e.journal_id, e.line) < (cast(:journal_id as bigint), cast(:line as bigint)))"
    f"  and (cast(:kind as text) is null or {_KIND} = :kind)"
    "  and (cast(:from_time as timestamptz) is null or j.created_at >= :from_time)"
    "  and (cast(:to_time as timestamptz) is null or j.created_at < :to_time)"
    " order by e.journal_id desc, e.line desc limit :limit) m"
    " where a.owner_id = :user_id and a.kind <> 'user_held'"
    " order by m.journal_id desc, m.line desc limit :limit"
)
_MOVEMENT = text(
    f"select e.journal_id, e.line, e.amount, e.note, {_KIND} as kind,"  # noqa: S608 - a constant
    " j.round_id, j.sender_id, j.recipient_id, j.memo, j.txid, j.created_at"
    " from account a join entry e on e.account_id = a.id join journal j on j.id = e.journal_id"
    " where a.owner_id = :user_id and a.kind <> 'user_held'"
    " and e.journal_id = :journal_id and e.line = :line"
)
_TRANSFER = text(
    "select m.source, m.target, m.amount, j.sender_id, j.recipient_id from journal j"
    " join movement m on m.journal_id = j.id and m.line = 1"
    " where j.id = :journal_id and j.kind = 'transfer'"
)
_DEPOSITS = text(
    "select d.*, x.address, t.height as tip_height from deposit d"
    " join deposit_address x on x.user_id = d.user_id left join chain_tip t on true"
    " where d.user_id = :user_id and (cast(:txid as text) is null or (d.created_at, d.txid, d.vout)"
    "  < (cast(:created_at as timestamptz), cast(:txid as text), cast(:vout as bigint)))"
    " order by d.created_at desc, d.txid desc, d.vout desc limit :limit"
)
_DEPOSIT = text(
    "select d.*, x.address, t.height as tip_height from deposit d"
    " join deposit_address x on x.user_id = d.user_id left join chain_tip t on true"
    " where d.user_id = :user_id and d.txid = :txid and d.vout = :vout"
)
_RESERVES = text(
    "with owed as (select a.kind, coalesce(sum(b.posted), 0) as total"
    "  from account a join balance b on b.account_id = a.id group by a.kind),"
    " own as (select a.kind, coalesce(sum(e.amount), 0) as total"
    "  from account a join entry e on e.account_id = a.id"
    "  where a.kind in ('platform_fee', 'carry') group by a.kind)"
    " select"
    " coalesce((select total from owed where kind = 'user_available'), 0) as available,"
    " coalesce((select total from owed where kind = 'user_held'), 0) as held,"
    " coalesce((select total from owed where kind = 'user_receivable'), 0) as receivable,"
    " coalesce((select sum(e.amount) from payment_round r"
    "  join account a on a.round_id = r.round_id join entry e on e.account_id = a.id"
    "  where r.state not in ('paid', 'refunded')), 0) as escrow,"
    " coalesce((select total from own where kind = 'carry'), 0) as carry,"
    " coalesce((select total from own where kind = 'platform_fee'), 0) as fees,"
    " coalesce((select sum(d.amount) from deposit d where d.state = 'pending'"
    "  and d.missed < :lost_after), 0) as pending,"
    " coalesce((select sum(c.amount) from coin c left join deposit d"
    "  on d.txid = c.txid and d.vout = c.vout where c.state = 'free'"
    "  or d.missed < :lost_after), 0) as coins,"
    " (select height from chain_tip) as height"
)
_FEES = text(
    "select coalesce(sum(e.amount) filter (where j.kind = 'fee'), 0) as platform,"
    " coalesce(sum(e.amount) filter (where j.kind = 'transfer'), 0) as transfers from account a"
    " join entry e on e.account_id = a.id join journal j on j.id = e.journal_id"
    " where a.kind = 'platform_fee'"
    " and (cast(:from_time as timestamptz) is null or j.created_at >= :from_time)"
    " and (cast(:to_time as timestamptz) is null or j.created_at < :to_time)"
)


class Balances(NamedTuple):
    """A user's money, in satoshis."""

    available: int = 0
    withdrawable: int = 0
    held: int = 0
    pending: int = 0


class Movement(NamedTuple):
    """One line of a user's history; a negative amount left the account."""

    journal_id: int
    line: int
    amount: int
    note: str | None
    kind: str
    round_id: str | None
    sender_id: UUID | None
    recipient_id: UUID | None
    memo: str | None
    txid: str | None
    created_at: datetime


class TransferLine(NamedTuple):
    """The movement of a transfer that is not its fee."""

    source: int
    target: int
    amount: int
    sender_id: UUID
    recipient_id: UUID


@dataclass(frozen=True, slots=True)
class Reserves:
    """What is owed, what is ours, and what is on chain, in one snapshot; satoshis."""

    available: int
    held: int
    escrow: int
    carry: int
    fees: int
    receivable: int
    pending: int
    coins: int
    height: int | None

    @property
    def owed(self) -> int:
        """All that users can claim, now or after a round."""
        return self.available + self.held + self.escrow + self.carry

    @property
    def platform_equity(self) -> int:
        """What is the platform's own: fees, less what users owe after reorganisations."""
        return self.fees + self.receivable


async def balances(session: Session, user_id: UUID, maturity_blocks: int) -> Balances:
    """A user's money; nothing at all for a user without an account."""
    values = {
        "user_id": user_id,
        "maturity_blocks": maturity_blocks,
        "lost_after": LOST_AFTER,
    }
    row: Any = (await session.execute(_BALANCE, values)).one_or_none()
    if row is None:
        return Balances()
    return Balances(row.available, max(0, int(row.mature)), int(row.held), int(row.pending))


async def history(
    session: Session,
    user_id: UUID,
    *,
    before: tuple[int, int] | None,
    kind: str | None,
    from_time: datetime | None,
    to_time: datetime | None,
    limit: int,
) -> list[Movement]:
    """A user's movements before a position (journal, line), newest first."""
    journal_id, line = before or (None, None)
    values = {
        "user_id": user_id,
        "journal_id": journal_id,
        "line": line,
        "kind": kind,
        "from_time": from_time,
        "to_time": to_time,
        "limit": limit,
    }
    return [Movement(*row) for row in await session.execute(_HISTORY, values)]


async def movement(session: Session, user_id: UUID, journal_id: int, line: int) -> Movement | None:
    """One movement of the user's."""
    values = {"user_id": user_id, "journal_id": journal_id, "line": line}
    row = (await session.execute(_MOVEMENT, values)).one_or_none()
    return None if row is None else Movement(*row)


async def transfer(session: Session, journal_id: int) -> TransferLine | None:
    """What a posted transfer moved between its users."""
    row = (await session.execute(_TRANSFER, {"journal_id": journal_id})).one_or_none()
    return None if row is None else TransferLine(*row)


async def deposits(
    session: Session, user_id: UUID, *, before: tuple[datetime, str, int] | None, limit: int
) -> list[Any]:
    """A user's deposits before a position, newest first."""
    created_at, txid, vout = before or (None, None, None)
    values = {
        "user_id": user_id,
        "created_at": created_at,
        "txid": txid,
        "vout": vout,
        "limit": limit,
    }
    return list(await session.execute(_DEPOSITS, values))


async def deposit(session: Session, user_id: UUID, txid: str, vout: int) -> Any | None:
    """One deposit of the user's."""
    values = {"user_id": user_id, "txid": txid, "vout": vout}
    return (await session.execute(_DEPOSIT, values)).one_or_none()


async def reserves(session: Session) -> Reserves:
    """The platform's position."""
    row: Any = (await session.execute(_RESERVES, {"lost_after": LOST_AFTER})).one()
    numbers = {name: int(getattr(row, name)) for name in Reserves.__slots__ if name != "height"}
    return Reserves(**numbers, height=row.height)


async def fees(
    session: Session, from_time: datetime | None, to_time: datetime | None
) -> tuple[int, int]:
    """Fees taken in a period: of rounds, and of transfers."""
    values = {"from_time": from_time, "to_time": to_time}
    row: Any = (await session.execute(_FEES, values)).one()
    return int(row.platform), int(row.transfers)
