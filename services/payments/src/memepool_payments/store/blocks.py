"""Sealed blocks, and the journals that they are made of. Sealing writes to no other table."""

from sqlalchemy import text

from memepool_common.db import Session
from memepool_payments.domain.sealing import Block, Row

_SEALER = 7_221_004  # any constant: advisory locks are per database
_COLUMNS = "seq, first_journal, last_journal, journals, movements, prev_hash, rows_hash, hash"
_HEAD = text(f"select {_COLUMNS} from audit_block order by seq desc limit 1")  # noqa: S608 - constant
_AFTER = text(f"select {_COLUMNS} from audit_block where seq > :seq order by seq limit 1")  # noqa: S608 - constant
_INSERT = text(
    f"insert into audit_block ({_COLUMNS}) values (:seq, :first_journal, :last_journal,"  # noqa: S608 - constant
    " :journals, :movements, :prev_hash, :rows_hash, :hash)"
)
_MARK = text(
    "select (select coalesce(max(id), 0) from journal) as journal_id,"
    " pg_current_xact_id()::text::bigint as transaction_id"
)
_ENDED = text(
    "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint > :transaction_id as ended"
)
_ROWS = text(
    "select json_build_array(j.id, j.scope, j.key, encode(j.request_hash, 'hex'), j.kind,"
    "  j.outcome, j.round_id, j.sender_id, j.recipient_id, j.memo, j.txid,"
    "  extract(epoch from j.created_at), m.lines)::text as line, coalesce(m.number, 0) as movements"
    " from journal j left join ("
    "  select journal_id, count(*) as number, json_agg(json_build_array(line, source, target,"
    "   amount, source_after, target_after, note) order by line) as lines"
    "  from movement where journal_id between :first and :last group by journal_id"
    " ) m on m.journal_id = j.id"
    " where j.id between :first and :last order by j.id"
)


async def alone(session: Session) -> bool:
    """Whether this transaction is the one sealer until it ends."""
    query = text("select pg_try_advisory_xact_lock(:id)")
    return bool((await session.execute(query, {"id": _SEALER})).scalar_one())


async def mark(session: Session) -> tuple[int, int]:
    """The last journal, and a transaction id that is younger than those who number until it."""
    row = (await session.execute(_MARK)).one()
    return row.journal_id, row.transaction_id


async def ended(session: Session, transaction_id: int) -> bool:
    """Whether every transaction up to this one has ended, and is seen or never will be."""
    values = {"transaction_id": transaction_id}
    return bool((await session.execute(_ENDED, values)).scalar_one())


async def head(session: Session) -> Block | None:
    """The last block."""
    row = (await session.execute(_HEAD)).one_or_none()
    return None if row is None else Block(*row)


async def after(session: Session, seq: int) -> Block | None:
    """The next block."""
    row = (await session.execute(_AFTER, {"seq": seq})).one_or_none()
    return None if row is None else Block(*row)


async def rows(session: Session, first: int, last: int) -> list[Row]:
    """The journals with these numbers, canonical, in order."""
    return [Row(*row) for row in await session.execute(_ROWS, {"first": first, "last": last})]


async def add(session: Session, block: Block) -> None:
    """Keep a block."""
    await session.execute(_INSERT, block._asdict())
