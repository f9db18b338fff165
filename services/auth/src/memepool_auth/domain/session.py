"""Sessions: how long they live, and what a refresh token is worth.

A session is a family of refresh tokens of which only the newest is good. A token that comes a
second time was copied: nobody can tell thief from owner, so the session ends for both. One
exception: an answer may get lost, and two tabs may ask at once. So the token before the newest is
answered again for a few seconds, with the same successor, which still can be used once only.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from memepool_auth.domain.errors import (
    RefreshTokenReusedError,
    SessionEndedError,
    SessionExpiredError,
    SignInRefusedError,
)

ACCESS_TOKEN_LIFETIME = timedelta(minutes=5)
GRANT_LIFETIME = timedelta(seconds=60)
IDLE_LIFETIME = timedelta(days=30)
GREATEST_AGE = timedelta(days=90)
REFRESH_GRACE = timedelta(seconds=5)
SESSIONS_PER_USER_MAX = 50


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in on one device. `address_prefix` is all that is kept of where it came from."""

    id: UUID
    user_id: UUID
    device: str | None
    address_prefix: str | None
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    ended_at: datetime | None


def expiry(created_at: datetime, used_at: datetime) -> datetime:
    """When a session that was last used at `used_at` expires."""
    return min(used_at + IDLE_LIFETIME, created_at + GREATEST_AGE)


def refusal_to_refresh(
    session: Session, token_used_at: datetime | None, *, precedes_newest: bool, now: datetime
) -> SignInRefusedError | None:
    """Why this refresh token of this session is not good, or None.

    Args:
        session: whose token it is.
        token_used_at: when it was used before.
        precedes_newest: whether the token that it was exchanged for has not been used yet.
        now: the instant of this use.
    """
    if session.ended_at is not None:
        return SessionEndedError()
    if token_used_at is not None and not (precedes_newest and now - token_used_at <= REFRESH_GRACE):
        return RefreshTokenReusedError()
    if session.expires_at <= now:
        return SessionExpiredError()
    return None
