"""Users and what their roles allow them to become."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from memepool_auth.domain.errors import AccountSuspendedError, RoleNotSelfAssignableError

Role = Literal["viewer", "creator", "admin"]
_RANKS: dict[Role, int] = {"viewer": 0, "creator": 1, "admin": 2}


@dataclass(frozen=True, slots=True)
class User:
    """A user. `wallet_address` is that of the compressed key, whatever form signed in."""

    id: UUID
    wallet_address: str
    role: Role
    suspended_at: datetime | None
    created_at: datetime
    version: int


@dataclass(frozen=True, slots=True)
class Stats:
    """What a user has done in rounds; amounts in satoshis."""

    uploads: int = 0
    submissions: int = 0
    votes: int = 0
    sats_staked: int = 0
    rounds_won: int = 0
    sats_earned: int = 0


def is_demotion(role: Role, wanted: Role) -> bool:
    """Whether the change takes rights away, so that tokens of the old role must die."""
    return _RANKS[wanted] < _RANKS[role]


def require_self_assignable(role: Role, wanted: Role) -> None:
    """Raise RoleNotSelfAssignableError unless a user may make this change alone."""
    if wanted != role and (role, wanted) != ("viewer", "creator"):
        raise RoleNotSelfAssignableError


def require_active(user: User) -> None:
    """Raise AccountSuspendedError for a suspended user."""
    if user.suspended_at is not None:
        raise AccountSuspendedError
