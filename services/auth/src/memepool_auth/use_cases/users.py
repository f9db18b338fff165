"""Users: roles and suspension, and what the rest of the system is told of them."""

from uuid import UUID

from memepool_auth.domain.client import Client
from memepool_auth.domain.errors import LastAdminError, NoLongerAdminError, UserNotFoundError
from memepool_auth.domain.user import Role, User, is_demotion, require_self_assignable
from memepool_auth.events import SessionEndedData, UserData, session_ended, user_updated
from memepool_auth.store import sessions, users
from memepool_chain.address import address_of
from memepool_chain.keys import uncompressed
from memepool_chain.message import Signer
from memepool_chain.network import network_named
from memepool_common import audit
from memepool_common.db import Session
from memepool_common.events import outbox


def projection(user: User) -> UserData:
    """What other services keep of a user."""
    return UserData(
        id=user.id,
        wallet_address=user.wallet_address,
        role=user.role,
        suspended=user.suspended_at is not None,
        created_at=user.created_at,
    )


async def apply_first_admin(
    session: Session, first_admin: str | None, network: str, user: User, signer: Signer
) -> User:
    """Make the wallet of the setting an admin, once ever, when its owner signs in.

    The setting may name either address form; only the signer's key shows that both are one.
    """
    forms = (signer.address, address_of(uncompressed(signer.public_key), network_named(network)))
    if first_admin not in forms or not await users.apply_first_admin(session, user.id):
        return user
    promoted = await users.set_role(session, user.id, "admin")
    await outbox.append(session, [user_updated(projection(promoted), promoted.version)])
    await audit.record(
        session,
        actor_id=None,
        account_id=user.id,
        action="auth.first_admin.applied",
        subject=str(user.id),
    )
    return promoted


async def change_own_role(session: Session, user_id: UUID, role: Role, client: Client) -> User:
    """A viewer becomes a creator; the next token says so.

    Raises:
        RoleNotSelfAssignableError: any other change.
    """
    user = await users.for_update(session, user_id)
    if user is None:
        raise UserNotFoundError
    require_self_assignable(user.role, role)
    return await _change_role(session, user_id, user, role, client)


async def assign_role(
    session: Session, admin_id: UUID, user_id: UUID, role: Role, client: Client
) -> User:
    """An admin gives or takes a role. Tokens of a role that was taken die at once.

    Raises:
        NoLongerAdminError, UserNotFoundError, LastAdminError.
    """
    user, admins = await _lock(session, admin_id, user_id)
    if role != "admin" and admins == {user_id}:
        raise LastAdminError
    return await _change_role(session, admin_id, user, role, client)


async def suspend(
    session: Session, admin_id: UUID, user_id: UUID, reason: str | None, client: Client
) -> User:
    """Shut a user out: sessions end, tokens die, no new ones are given.

    Raises:
        NoLongerAdminError, UserNotFoundError, LastAdminError.
    """
    user, admins = await _lock(session, admin_id, user_id)
    if admins == {user_id}:
        raise LastAdminError
    if user.suspended_at is not None:
        return user
    suspended = await users.suspend(session, user_id, reason)
    live = await sessions.lock_live(session, user_id)
    await sessions.end(session, [each.id for each in live], "suspended")
    await outbox.append(session, [user_updated(projection(suspended), suspended.version)])
    await _void_tokens(session, user_id, "suspended")
    await audit.record(
        session,
        actor_id=admin_id,
        account_id=user_id,
        action="auth.user.suspended",
        subject=str(user_id),
        address=client.address_prefix,
        details={"reason": reason},
    )
    return suspended


async def lift_suspension(session: Session, admin_id: UUID, user_id: UUID, client: Client) -> None:
    """Let a user in again; without effect on who is not suspended.

    Raises:
        NoLongerAdminError, UserNotFoundError.
    """
    user, _ = await _lock(session, admin_id, user_id)
    if user.suspended_at is None:
        return
    restored = await users.lift_suspension(session, user_id)
    await outbox.append(session, [user_updated(projection(restored), restored.version)])
    await audit.record(
        session,
        actor_id=admin_id,
        account_id=user_id,
        action="auth.user.suspension_lifted",
        subject=str(user_id),
        address=client.address_prefix,
    )


async def _lock(session: Session, admin_id: UUID, user_id: UUID) -> tuple[User, set[UUID]]:
    """The user to be changed, and the admins who can act, all locked; admins first."""
    admins = await users.lock_active_admins(session)
    if admin_id not in admins:
        raise NoLongerAdminError
    user = await users.for_update(session, user_id)
    if user is None:
        raise UserNotFoundError
    return user, admins


async def _change_role(
    session: Session, actor_id: UUID, user: User, role: Role, client: Client
) -> User:
    if role == user.role:
        return user
    changed = await users.set_role(session, user.id, role)
    await outbox.append(session, [user_updated(projection(changed), changed.version)])
    if is_demotion(user.role, role):
        await _void_tokens(session, user.id, "demoted")
    await audit.record(
        session,
        actor_id=actor_id,
        account_id=user.id,
        action="auth.role.changed",
        subject=str(user.id),
        address=client.address_prefix,
        details={"from": user.role, "to": role},
    )
    return changed


async def _void_tokens(session: Session, user_id: UUID, reason: str) -> None:
    not_before = await users.revoke_tokens(session, user_id)
    voided = SessionEndedData(
        user_id=user_id, session_id=None, not_before=not_before, reason=reason, ended_at=not_before
    )
    await outbox.append(session, [session_ended(voided)])
