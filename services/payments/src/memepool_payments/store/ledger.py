"""The ledger's functions, called with columns. The application may write it in no other way."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text

from memepool_common.arrays import bigints, byteas, ints, texts, uuids
from memepool_common.db import Session, Statement, run
from memepool_payments.domain.journal import NewJournal, Posting, without_repetitions

AVAILABLE = "user_available"
HELD = "user_held"
RECEIVABLE = "user_receivable"
PLATFORM_FEE = "platform_fee"
CARRY = "carry"
CHAIN_ASSETS = "chain_assets"

_POST = (
    "select each.* from post_journals("
    "%b::text[], %b::text[], %b::bytea[], %b::text[], %b::text[], %b::uuid[], %b::uuid[],"
    " %b::text[], %b::text[], %b::int[], %b::bigint[], %b::bigint[], %b::bigint[], %b::text[],"
    " %b::bigint, %b::int) as p, unnest(p.ids, p.outcomes, p.replays, p.times)"
    " as each (journal_id, outcome, replayed, created_at)"
)
_OPEN = text("select open_accounts(cast(:owners as uuid[]), :kind)")
_OF_USERS = text(
    "select owner_id, id from account where owner_id = any(cast(:owners as uuid[]))"
    " and kind = :kind"
)
_OF_PLATFORM = text("select id from account where kind = :kind")
_OF_ROUND = text("select id from account where round_id = :round_id")
_LOCK = text("select account_id, posted from lock_balances(cast(:accounts as bigint[]))")


class Velocity(NamedTuple):
    """The most that a user may send by transfers within an hour of the clock: satoshis, times."""

    sent_max: int
    sends_max: int


async def post(
    session: Session, journals: Sequence[NewJournal], velocity: Velocity | None = None
) -> list[Posting]:
    """Post journals and lock the balances they touch; one answer for each, in order.

    The results equal those of posting them one after the other, in this order.
    """
    parts = list(without_repetitions(journals, lambda journal: (journal.scope, journal.key)))
    if len(parts) > 1:  # each locks what it touches: all locks are taken before, in order
        await lock_balances(session, _accounts(journals))
    return [posting for part in parts for posting in await post_distinct(session, part, velocity)]


def _accounts(journals: Sequence[NewJournal]) -> list[int]:
    return sorted({end for journal in journals for each in journal.movements for end in each[:2]})


async def post_distinct(
    session: Session | Statement, journals: Sequence[NewJournal], velocity: Velocity | None = None
) -> list[Posting]:
    """`post` for journals whose keys are all different: one statement."""
    if not journals:
        return []
    scopes, keys, hashes, kinds, movements, rounds, senders, recipients, memos, txids = zip(
        *journals, strict=True
    )
    sources, targets, amounts, notes = zip(*chain.from_iterable(movements), strict=True)
    rows = await run(
        session,
        _POST,
        (
            texts(scopes),
            texts(keys),
            byteas(hashes),
            texts(kinds),
            texts(rounds),
            uuids(senders),
            uuids(recipients),
            texts(memos),
            texts(txids),
            ints([len(each) for each in movements]),
            bigints(sources),
            bigints(targets),
            bigints(amounts),
            texts(notes),
            *(velocity or (None, None)),
        ),
    )
    return [Posting._make(row) for row in rows]


async def answered(session: Session, scope: str, key: str) -> bool:
    """Whether a journal has the key, so that posting under it moves nothing any more."""
    query = text("select exists (select from journal where scope = :scope and key = :key)")
    return bool((await session.execute(query, {"scope": scope, "key": key})).scalar_one())


async def open_accounts(
    session: Session, owners: Sequence[UUID], kind: str = AVAILABLE
) -> dict[UUID, int]:
    """The accounts of these users, made where they are missing, before any other lock is taken."""
    await session.execute(_OPEN, {"owners": list(owners), "kind": kind})
    return await accounts_of(session, owners, kind)


async def accounts_of(
    session: Session, owners: Sequence[UUID], kind: str = AVAILABLE
) -> dict[UUID, int]:
    """The ids of these users' accounts; a user without one is left out."""
    rows = await session.execute(_OF_USERS, {"owners": list(owners), "kind": kind})
    return {row.owner_id: row.id for row in rows}


async def platform_account(session: Session, kind: str) -> int:
    """The id of an account of the platform's own."""
    return await _one(session, _OF_PLATFORM, kind=kind)


async def escrow_account(session: Session, round_id: str) -> int:
    """The id of a round's escrow."""
    return await _one(session, _OF_ROUND, round_id=round_id)


async def open_escrow(session: Session, round_id: str) -> None:
    """Make a round's escrow account unless it exists."""
    await session.execute(
        text("select open_escrows(cast(:rounds as text[]))"), {"rounds": [round_id]}
    )


async def lock_balances(session: Session, accounts: Sequence[int]) -> Mapping[int, int]:
    """Satoshis by account, as they stay until this transaction ends."""
    rows = await session.execute(_LOCK, {"accounts": sorted(accounts)})
    return {row.account_id: row.posted for row in rows}


async def total(session: Session, account_id: int) -> int:
    """The sum of an account's entries: for accounts without a materialised balance."""
    query = text("select coalesce(sum(amount), 0)::bigint from entry where account_id = :id")
    return int((await session.execute(query, {"id": account_id})).scalar_one())


async def set_frozen(session: Session, user_id: UUID, *, frozen: bool) -> None:
    """Whether anything new may leave the user's account; what comes in always may."""
    query = text("select set_frozen(:user_id, :frozen)")
    await session.execute(query, {"user_id": user_id, "frozen": frozen})


async def _one(session: Session, query: Any, **values: object) -> int:
    return int((await session.execute(query, values)).scalar_one())
