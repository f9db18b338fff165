"""Users. Whoever issues a token holds the user FOR SHARE, whoever changes rights FOR UPDATE."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text

from memepool_auth.domain.user import Role, Stats, User
from memepool_common.db import Session, Statement, run

_REGISTER = text("""
insert into app_user (id, wallet_address, created_at) values (:id, :wallet_address, now())
on conflict (wallet_address) do nothing
""")
_COLUMNS = "select id, wallet_address, role, suspended_at, created_at, version from app_user"
_FIND = text(f"{_COLUMNS} where id = :id")
_FOR_SHARE = text(f"{_COLUMNS} where id = :id for share")
_FOR_UPDATE = text(f"{_COLUMNS} where id = :id for update")
_BY_WALLET = text(f"{_COLUMNS} where wallet_address = :wallet_address")
_ID_OF_WALLET = text("select id from app_user where wallet_address = :wallet_address")
_ACTIVE_ADMINS = text("""
select id from app_user where role = 'admin' and suspended_at is null order by id for update
""")
_APPLY_FIRST_ADMIN = text("""
insert into first_admin (user_id) values (:id) on conflict do nothing returning user_id
""")
_SET_ROLE = text("""
update app_user set role = :role, version = version + 1 where id = :id
returning id, wallet_address, role, suspended_at, created_at, version
""")
_SUSPEND = text("""
update app_user
set suspended_at = now(), suspension_reason = :reason, version = version + 1 where id = :id
returning id, wallet_address, role, suspended_at, created_at, version
""")
_LIFT = text("""
update app_user
set suspended_at = null, suspension_reason = null, version = version + 1 where id = :id
returning id, wallet_address, role, suspended_at, created_at, version
""")
_REVOKE = text("""
update app_user set tokens_not_before = clock_timestamp() where id = :id
returning tokens_not_before
""")
_REVOKED = """
select id, tokens_not_before from app_user where tokens_not_before > now() - %s order by id
"""
_STATS = text("""
select uploads, submissions, votes, greatest(sats_staked, 0) as sats_staked, rounds_won,
  sats_earned
from user_stats where user_id = :id
""")


async def register(session: Session, user_id: UUID, wallet_address: str) -> bool:
    """Create the user of a wallet with this id, unless the wallet has one; whether it did."""
    given = {"id": user_id, "wallet_address": wallet_address}
    return (await session.execute(_REGISTER, given)).rowcount == 1


async def find(session: Session, user_id: UUID) -> User | None:
    """A user, as of now."""
    row = (await session.execute(_FIND, {"id": user_id})).mappings().one_or_none()
    return User(**row) if row else None


async def for_share(session: Session, user_id: UUID) -> User | None:
    """A user whose role and suspension stay as they are until the transaction ends."""
    row = (await session.execute(_FOR_SHARE, {"id": user_id})).mappings().one_or_none()
    return User(**row) if row else None


async def for_update(session: Session, user_id: UUID) -> User | None:
    """A user that this transaction may change."""
    row = (await session.execute(_FOR_UPDATE, {"id": user_id})).mappings().one_or_none()
    return User(**row) if row else None


async def of_wallet(session: Session, wallet_address: str) -> User:
    """The user of a wallet that has one."""
    return User(
        **(await session.execute(_BY_WALLET, {"wallet_address": wallet_address})).mappings().one()
    )


async def id_of_wallet(session: Session, wallet_address: str) -> UUID | None:
    """Whose wallet it is, if anybody's."""
    given = {"wallet_address": wallet_address}
    return (await session.execute(_ID_OF_WALLET, given)).scalar_one_or_none()


async def lock_active_admins(session: Session) -> set[UUID]:
    """The admins who can act, locked in one order: two of them cannot remove each other."""
    return set((await session.execute(_ACTIVE_ADMINS)).scalars())


async def apply_first_admin(session: Session, user_id: UUID) -> bool:
    """Note that this user is the first admin; False if there has been one before."""
    applied = await session.execute(_APPLY_FIRST_ADMIN, {"id": user_id})
    return applied.scalar_one_or_none() is not None


async def set_role(session: Session, user_id: UUID, role: Role) -> User:
    """Change the role; the user as it then is."""
    return User(
        **(await session.execute(_SET_ROLE, {"id": user_id, "role": role})).mappings().one()
    )


async def suspend(session: Session, user_id: UUID, reason: str | None) -> User:
    """Suspend the user."""
    return User(
        **(await session.execute(_SUSPEND, {"id": user_id, "reason": reason})).mappings().one()
    )


async def lift_suspension(session: Session, user_id: UUID) -> User:
    """Let the user act again."""
    return User(**(await session.execute(_LIFT, {"id": user_id})).mappings().one())


async def revoke_tokens(session: Session, user_id: UUID) -> datetime:
    """Void all tokens issued so far; the instant before which they were.

    The instant is taken under the lock on the user, after every token issued under FOR SHARE.
    """
    revoked = await session.execute(_REVOKE, {"id": user_id})
    not_before: datetime = revoked.scalar_one()
    return not_before


async def revoked_within(session: Statement, window: timedelta) -> dict[UUID, datetime]:
    """The users whose tokens were voided in the last while, and when."""
    rows = await run(session, _REVOKED, [window])
    return {row.id: row.tokens_not_before for row in rows}


async def stats(session: Session, user_id: UUID) -> Stats:
    """What the user has done; zeros for who has done nothing yet."""
    row = (await session.execute(_STATS, {"id": user_id})).mappings().one_or_none()
    return Stats(**row) if row else Stats()
