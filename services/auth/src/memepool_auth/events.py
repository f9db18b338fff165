"""The events that auth publishes. It owns their schemas: only optional fields may be added."""

from typing import Literal
from uuid import UUID

from memepool_common.events import NewEvent
from memepool_common.web.model import Timestamp, WireModel

USER_REGISTERED = "memepool.auth.user.registered.v1"
USER_UPDATED = "memepool.auth.user.updated.v1"
SESSION_ENDED = "memepool.auth.session.ended.v1"


class UserData(WireModel, extra="forbid"):
    """The whole projection of a user, as `registered` and `updated` carry it."""

    id: UUID
    wallet_address: str
    role: Literal["viewer", "creator", "admin"]
    suspended: bool
    created_at: Timestamp


class SessionEndedData(WireModel, extra="forbid"):
    """A session ended; without `sessionId`, all of the user's tokens issued before `notBefore`."""

    user_id: UUID
    session_id: UUID | None
    not_before: Timestamp | None
    reason: str
    ended_at: Timestamp


EVENTS: dict[str, type[WireModel]] = {
    USER_REGISTERED: UserData,
    USER_UPDATED: UserData,
    SESSION_ENDED: SessionEndedData,
}


def user_registered(user: UserData, version: int) -> NewEvent:
    """A wallet signed in for the first time."""
    return NewEvent(USER_REGISTERED, str(user.id), user, str(user.id), version)


def user_updated(user: UserData, version: int) -> NewEvent:
    """Role or suspension changed; `version` rises with every change."""
    return NewEvent(USER_UPDATED, str(user.id), user, str(user.id), version)


def session_ended(data: SessionEndedData) -> NewEvent:
    """Tokens became void before their time."""
    return NewEvent(SESSION_ENDED, str(data.user_id), data, str(data.user_id))
