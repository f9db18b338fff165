"""What payments knows of users: their wallet, and whether their account may be debited."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text

from memepool_common.db import Session
from memepool_payments.store import ledger

_UPSERT = text(
    "insert into member as m (user_id, wallet_address, suspended, version, created_at)"
    " values (:user_id, :wallet_address, :suspended, :version, :created_at)"
    " on conflict (user_id) do update set wallet_address = excluded.wallet_address,"
    " suspended = excluded.suspended, version = excluded.version"
    " where m.version < excluded.version"
)
# Two first calls of one user at once would otherwise meet in the index of wallets, where a conflict
# is an error.
_ALONE = text("select pg_advisory_xact_lock(hashtextextended(:user_id, 1))")
_FREEZE = text("update member set frozen = :frozen where user_id = :user_id returning suspended")


class Recipient(NamedTuple):
    """Who gets a transfer."""

    user_id: UUID
    account_id: int


async def remember(
    session: Session,
    *,
    user_id: UUID,
    wallet_address: str,
    suspended: bool,
    version: int,
    created_at: datetime,
) -> None:
    """Take over a user's projection unless a newer one is there; opens the account."""
    await session.execute(_ALONE, {"user_id": str(user_id)})
    result = await session.execute(
        _UPSERT,
        {
            "user_id": user_id,
            "wallet_address": wallet_address,
            "suspended": suspended,
            "version": version,
            "created_at": created_at,
        },
    )
    await ledger.open_accounts(session, [user_id])
    if result.rowcount:
        frozen = text("select suspended or frozen from member where user_id = :user_id")
        now_frozen = (await session.execute(frozen, {"user_id": user_id})).scalar_one()
        await ledger.set_frozen(session, user_id, frozen=now_frozen)


async def freeze(session: Session, user_id: UUID, *, frozen: bool) -> bool:
    """Freeze or release an account by an admin's hand; False when there is no such user."""
    row = (await session.execute(_FREEZE, {"user_id": user_id, "frozen": frozen})).one_or_none()
    if row is None:
        return False
    await ledger.set_frozen(session, user_id, frozen=frozen or row.suspended)
    return True


async def recipient(
    session: Session, *, user_id: UUID | None, wallet_address: str | None
) -> Recipient | None:
    """A user with an account, by id or by wallet address."""
    row = (
        await session.execute(
            text(
                "select a.owner_id, a.id from account a"
                " where a.kind = 'user_available' and a.owner_id = coalesce(cast(:user_id as uuid),"
                " (select m.user_id from member m where m.wallet_address = :address))"
            ),
            {"user_id": user_id, "address": wallet_address},
        )
    ).one_or_none()
    return None if row is None else Recipient(row.owner_id, row.id)
