"""Events of other services that content acts on."""

from collections.abc import Sequence
from uuid import UUID

from memepool_common.db import Session
from memepool_common.events import Event, Subscription
from memepool_common.web.model import WireModel
from memepool_content.store import members


class User(WireModel):
    """Of auth's user events, what content needs."""

    id: UUID
    suspended: bool


async def on_users(session: Session, events: Sequence[Event]) -> None:
    """Keep in mind who is suspended."""
    users = [(User.model_validate(event.data), event.version) for event in events]
    await members.project(session, [(user.id, user.suspended, at) for user, at in users])


SUBSCRIPTIONS = (
    Subscription(
        queue="content.users",
        handlers={
            "memepool.auth.user.registered.v1": on_users,
            "memepool.auth.user.updated.v1": on_users,
        },
    ),
)
