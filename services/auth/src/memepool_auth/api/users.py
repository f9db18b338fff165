"""Users: profiles, roles, suspension."""

from uuid import UUID

from fastapi import APIRouter

from memepool_auth.api.deps import ClientDep, UserId
from memepool_auth.api.schemas import (
    ProfileChange,
    RoleAssignment,
    Suspension,
    SuspensionRequest,
    User,
)
from memepool_auth.domain.errors import UserNotFoundError
from memepool_auth.store import users as store
from memepool_auth.use_cases import users
from memepool_common.db import Session
from memepool_common.web.deps import AdminCaller, Caller, ReadSessionDep, SessionDep

router = APIRouter(tags=["auth"])


@router.get("/auth/me")
async def read_me(caller: Caller, session: ReadSessionDep) -> User:
    """Your own profile. The role here is the one of the next token."""
    return await _profile(session, caller.user_id)


@router.patch("/auth/me")
async def update_me(
    body: ProfileChange, caller: Caller, client: ClientDep, session: SessionDep
) -> User:
    """Change your profile: a viewer becomes a creator, in force from the next token on."""
    if body.role is not None:
        await users.change_own_role(session, caller.user_id, body.role, client)
    return await _profile(session, caller.user_id)


@router.get("/auth/users/{userId}")
async def read_user(user_id: UserId, caller: Caller, session: ReadSessionDep) -> User:  # noqa: ARG001 - only for who is signed in
    """A user's profile."""
    return await _profile(session, user_id)


@router.put("/auth/users/{userId}/role")
async def assign_role(
    user_id: UserId,
    body: RoleAssignment,
    caller: AdminCaller,
    client: ClientDep,
    session: SessionDep,
) -> User:
    """Give or take a role. Tokens of a role that was taken stop working within a second."""
    await users.assign_role(session, caller.user_id, user_id, body.role, client)
    return await _profile(session, user_id)


@router.put("/auth/users/{userId}/suspension")
async def suspend_user(
    user_id: UserId,
    caller: AdminCaller,
    client: ClientDep,
    session: SessionDep,
    body: SuspensionRequest | None = None,
) -> Suspension:
    """Shut a user out: their sessions end, and they cannot sign in."""
    reason = body.reason if body else None
    user = await users.suspend(session, caller.user_id, user_id, reason, client)
    return Suspension.of(user)


@router.delete("/auth/users/{userId}/suspension", status_code=204)
async def lift_suspension(
    user_id: UserId, caller: AdminCaller, client: ClientDep, session: SessionDep
) -> None:
    """Let a user sign in again."""
    await users.lift_suspension(session, caller.user_id, user_id, client)


async def _profile(session: Session, user_id: UUID) -> User:
    user = await store.find(session, user_id)
    if user is None:
        raise UserNotFoundError
    return User.of(user, await store.stats(session, user_id))
