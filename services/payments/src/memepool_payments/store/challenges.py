"""Challenges for wallets to sign: bounded in number, each used once."""

from uuid import UUID

from sqlalchemy import text

from memepool_common.db import Session
from memepool_payments.domain.intent import Challenge

OPEN_MAX = 20

_LOCK = text("select pg_advisory_xact_lock(hashtextextended(:user_id, 7))")
_FORGET = text("delete from signature_challenge where user_id = :user_id and expires_at <= now()")
_COUNT = text("select count(*) from signature_challenge where user_id = :user_id")
_INSERT = text(
    "insert into signature_challenge (nonce, user_id, intent, message, expires_at)"
    " values (:nonce, :user_id, :intent, :message, :expires_at)"
)
_USE = text(
    "delete from signature_challenge where nonce = :nonce and user_id = :user_id"
    " and intent = :intent and expires_at > now() returning message"
)


async def add(session: Session, user_id: UUID, intent: bytes, challenge: Challenge) -> bool:
    """Keep a challenge for a user's intent; False when too many of theirs are unexpired."""
    await session.execute(_LOCK, {"user_id": str(user_id)})
    await session.execute(_FORGET, {"user_id": user_id})
    if (await session.execute(_COUNT, {"user_id": user_id})).scalar_one() >= OPEN_MAX:
        return False
    row = {
        "nonce": challenge.nonce,
        "user_id": user_id,
        "intent": intent,
        "message": challenge.message,
        "expires_at": challenge.expires_at,
    }
    await session.execute(_INSERT, row)
    return True


async def use(session: Session, user_id: UUID, intent: bytes, nonce: str) -> str | None:
    """Use a nonce up; its message, or None if it is not good for this user and intent.

    One conditional delete: of any number of attempts on any number of replicas, one gets it.
    """
    values = {"nonce": nonce, "user_id": user_id, "intent": intent}
    return (await session.execute(_USE, values)).scalar_one_or_none()
