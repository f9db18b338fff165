"""Sessions: opened by a proof, kept alive by refresh tokens, ended by either side."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from memepool_auth.adapters import sealing
from memepool_auth.domain.client import Client
from memepool_auth.domain.errors import (
    GrantExpiredError,
    GrantUnknownError,
    GrantUsedError,
    RefreshTokenReusedError,
    RefreshTokenUnknownError,
    SessionGoneError,
    SessionNotFoundError,
    SignInRefusedError,
    UserNotFoundError,
)
from memepool_auth.domain.session import (
    ACCESS_TOKEN_LIFETIME,
    SESSIONS_PER_USER_MAX,
    expiry,
    refusal_to_refresh,
)
from memepool_auth.domain.session import (
    Session as SignInSession,
)
from memepool_auth.domain.user import Stats, User, require_active
from memepool_auth.events import SessionEndedData, session_ended
from memepool_auth.store import sessions, users
from memepool_auth.use_cases.keys import SigningKey
from memepool_auth.use_cases.sign_in import secret_hash
from memepool_common import audit
from memepool_common.db import Database, Session
from memepool_common.events import outbox
from memepool_common.ids import uuid7
from memepool_common.tokens import Principal, encode

REFRESH_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a signed-in client holds. The refresh token exists here and nowhere else of ours."""

    access_token: str
    refresh_token: str
    session: SignInSession
    user: User
    stats: Stats


@dataclass(frozen=True, slots=True)
class TokenMint:
    """Signs access tokens. It holds its key: asking for one inside a transaction would need a
    second connection."""

    key: SigningKey
    issuer: str
    audience: str

    def access_token(self, user: User, session_id: UUID, issued_at: datetime) -> str:
        """A token for five minutes from `issued_at`."""
        principal = Principal(
            user_id=user.id,
            session_id=session_id,
            role=user.role,
            wallet_address=user.wallet_address,
            created_at=user.created_at,
            issued_at=issued_at,
            expires_at=issued_at + ACCESS_TOKEN_LIFETIME,
        )
        return encode(
            principal,
            self.key.private_key,
            self.key.kid,
            issuer=self.issuer,
            audience=self.audience,
        )


async def redeem_grant(session: Session, mint: TokenMint, grant: str, client: Client) -> Tokens:
    """Open a session for a grant; grant and session are one change.

    Raises:
        GrantUnknownError, GrantUsedError, GrantExpiredError, AccountSuspendedError.
    """
    grant_hash = secret_hash(grant)
    user_id = await sessions.consume_grant(session, grant_hash)
    if user_id is not None:
        return await open_session(session, mint, user_id, client)
    used = await sessions.grant_was_used(session, grant_hash)
    if used is None:
        raise GrantUnknownError
    raise GrantUsedError if used else GrantExpiredError


async def open_session(session: Session, mint: TokenMint, user_id: UUID, client: Client) -> Tokens:
    """A new session for a user who has proven to be one; AccountSuspendedError."""
    user = await _holder(session, user_id)
    require_active(user)
    await _make_room(session, user_id, client)
    now = await sessions.instant(session)
    opened = SignInSession(
        id=uuid7(),
        user_id=user_id,
        device=client.device,
        address_prefix=client.address_prefix,
        created_at=now,
        last_used_at=now,
        expires_at=expiry(now, now),
        ended_at=None,
    )
    await sessions.add(session, opened, now + ACCESS_TOKEN_LIFETIME)
    await audit.record(
        session,
        actor_id=user_id,
        account_id=user_id,
        action="auth.session.opened",
        subject=str(opened.id),
        address=client.address_prefix,
    )
    return await _issue(session, mint, user, opened)


async def refresh(database: Database, mint: TokenMint, token: str, client: Client) -> Tokens:
    """New tokens for a refresh token, which is spent by it.

    The token before the newest gets the newest again, for a few seconds. This opens its own
    transaction: a reused token ends its session although the call is refused.

    Raises:
        RefreshTokenUnknownError, RefreshTokenReusedError, SessionEndedError, SessionExpiredError,
        AccountSuspendedError.
    """
    async with database.transaction() as session:
        outcome = await _refresh(session, mint, token, client)
    if isinstance(outcome, SignInRefusedError):
        raise outcome
    return outcome


async def end_own(
    session: Session, user_id: UUID, session_id: UUID, client: Client, *, reason: str
) -> None:
    """End one of the caller's sessions.

    Raises:
        SessionNotFoundError: the caller has none with this id.
        SessionGoneError: it has ended before.
    """
    found = await sessions.find(session, session_id)
    if found is None or found.user_id != user_id:
        raise SessionNotFoundError
    if not await _end(session, user_id, [session_id], reason, user_id, client):
        raise SessionGoneError


async def end_all(session: Session, user_id: UUID, kept_id: UUID | None, client: Client) -> None:
    """End all sessions of the caller, but one if told so."""
    live = await sessions.lock_live(session, user_id)
    ids = [each.id for each in live if each.id != kept_id]
    await _end(session, user_id, ids, "ended_by_owner", user_id, client)


async def _refresh(
    session: Session, mint: TokenMint, token: str, client: Client
) -> Tokens | SignInRefusedError:
    token_hash = secret_hash(token)
    user_id = await sessions.user_of_refresh_token(session, token_hash)
    if user_id is None:
        return RefreshTokenUnknownError()
    user = await _holder(session, user_id)
    found = await sessions.by_refresh_token(session, token_hash)
    if found is None:
        return RefreshTokenUnknownError()
    current, token_used_at, sealed_successor = found
    successor = _unseal_successor(token, sealed_successor, current.id)
    precedes_newest = successor is not None and await sessions.is_unused(
        session, secret_hash(successor)
    )
    now = await sessions.instant(session)
    refusal = refusal_to_refresh(current, token_used_at, precedes_newest=precedes_newest, now=now)
    if isinstance(refusal, RefreshTokenReusedError):
        await _end(session, user_id, [current.id], "refresh_token_reused", None, client)
    if refusal is not None:
        return refusal
    require_active(user)
    renewed = replace(
        current,
        last_used_at=now,
        expires_at=expiry(current.created_at, now),
        address_prefix=client.address_prefix,
    )
    await sessions.use(session, renewed, now + ACCESS_TOKEN_LIFETIME)
    if successor is not None:
        return await _tokens(session, mint, user, renewed, successor)
    tokens = await _issue(session, mint, user, renewed)
    sealed = sealing.seal(
        tokens.refresh_token.encode(), _sealing_key(token), f"session {current.id}"
    )
    await sessions.spend(session, token_hash, sealed)
    return tokens


def _unseal_successor(token: str, sealed: bytes | None, session_id: UUID) -> str | None:
    if sealed is None:
        return None
    return sealing.unseal(sealed, _sealing_key(token), f"session {session_id}").decode()


def _sealing_key(token: str) -> bytes:
    """What seals a token's successor: without the token itself, the database cannot tell it."""
    return hashlib.sha256(b"memepool-auth successor of " + token.encode()).digest()


async def _issue(session: Session, mint: TokenMint, user: User, current: SignInSession) -> Tokens:
    refresh_token = secrets.token_urlsafe(REFRESH_TOKEN_BYTES)
    await sessions.add_refresh_token(session, secret_hash(refresh_token), current.id)
    return await _tokens(session, mint, user, current, refresh_token)


async def _tokens(
    session: Session, mint: TokenMint, user: User, current: SignInSession, refresh_token: str
) -> Tokens:
    access_token = mint.access_token(user, current.id, current.last_used_at)
    stats = await users.stats(session, user.id)
    return Tokens(access_token, refresh_token, current, user, stats)


async def _holder(session: Session, user_id: UUID) -> User:
    """The user, who keeps role and standing until the tokens that say so are committed."""
    user = await users.for_share(session, user_id)
    if user is None:
        raise UserNotFoundError
    return user


async def _make_room(session: Session, user_id: UUID, client: Client) -> None:
    live = await sessions.lock_live(session, user_id)
    surplus = len(live) - (SESSIONS_PER_USER_MAX - 1)
    if surplus > 0:
        oldest = sorted(live, key=lambda each: each.last_used_at)[:surplus]
        ids = [each.id for each in oldest]
        await _end(session, user_id, ids, "too_many_sessions", None, client)


async def _end(
    session: Session,
    user_id: UUID,
    ids: Sequence[UUID],
    reason: str,
    actor_id: UUID | None,
    client: Client,
) -> list[UUID]:
    """End sessions, say so and write it down; the ones that had not ended before."""
    ended = await sessions.end(session, ids, reason)
    now = await sessions.instant(session)
    facts = [
        SessionEndedData(
            user_id=user_id, session_id=each, not_before=None, reason=reason, ended_at=now
        )
        for each in ended
    ]
    await outbox.append(session, [session_ended(fact) for fact in facts])
    for each in ended:
        await audit.record(
            session,
            actor_id=actor_id,
            account_id=user_id,
            action="auth.session.ended",
            subject=str(each),
            address=client.address_prefix,
            details={"reason": reason},
        )
    return ended
