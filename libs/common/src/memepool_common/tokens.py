"""Access tokens: ES256 JWTs (RFC 7519, RFC 9068) that auth issues and every process checks."""

import functools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import jwt

from memepool_common.authstate import AuthState
from memepool_common.clock import Clock, SystemClock
from memepool_common.web.problem import Problem

ALGORITHM = "ES256"
TOKEN_TYPE = "at+jwt"  # noqa: S105 - a media type, not a secret
TOKEN_LENGTH_MAX = 4_096
CLOCK_SKEW_S = 5
ROLES = ("viewer", "creator", "admin")
READS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: what a valid token proves."""

    user_id: UUID
    session_id: UUID
    role: str
    wallet_address: str
    created_at: datetime
    issued_at: datetime
    expires_at: datetime


def encode(principal: Principal, key: Any, kid: str, *, issuer: str, audience: str) -> str:
    """The signed token for a principal. `key` is a P-256 private key."""
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": str(principal.user_id),
        "sid": str(principal.session_id),
        "role": principal.role,
        "wallet": principal.wallet_address,
        "created": principal.created_at.timestamp(),
        "iat": principal.issued_at.timestamp(),
        "exp": int(principal.expires_at.timestamp()),
    }
    return jwt.encode(claims, key, ALGORITHM, headers={"kid": kid, "typ": TOKEN_TYPE})


def _refusal(code: str, detail: str) -> Problem:
    return Problem(401, code, detail, headers={"WWW-Authenticate": "Bearer"})


def _unavailable() -> Problem:
    detail = "Whether your session is still valid cannot be told right now. Try again."
    return Problem(503, "auth_unavailable", detail, headers={"Retry-After": "1"})


class TokenVerifier:
    """Checks tokens against the keys and ended sessions that auth publishes.

    A verified token is remembered (bounded) until the keys change, so the signature is checked
    once; expiry and the ended sessions are checked every time.
    """

    def __init__(
        self,
        state: AuthState,
        *,
        issuer: str,
        audience: str,
        clock: Clock | None = None,
        cache_size_max: int = 10_000,
    ) -> None:
        self.state = state
        self._issuer = issuer
        self._audience = audience
        self._clock = clock or SystemClock()
        self._cache_size_max = cache_size_max
        self._verified: OrderedDict[str, Principal] = OrderedDict()
        self._verified_by = state.keys

    def admit(self, method: str, authorization: Sequence[str]) -> Principal | None:
        """Who sends a request with these Authorization headers; None without one.

        Gateway and services ask alike: nothing trusts the gateway's word.

        Raises:
            Problem: 401 `token_invalid`, `token_expired` or `session_ended`; 503
                `auth_unavailable` when that cannot be told: for writes while auth is silent, for
                all when it has never answered.
        """
        if not authorization:
            return None
        scheme, _, token = authorization[0].partition(" ")
        if len(authorization) > 1 or scheme.lower() != "bearer" or not token.strip():
            detail = "The Authorization header must be 'Bearer <access token>', once."
            raise _refusal("token_invalid", detail)
        if not self.state.known or (method not in READS and not self.state.fresh):
            raise _unavailable()
        return self.verify(token.strip())

    def verify(self, token: str) -> Principal:
        """The caller that a token proves.

        Raises:
            Problem: 401 `token_invalid`, `token_expired` or `session_ended`; 503
                `auth_unavailable` if it is signed by a key that we may not have heard of yet.
        """
        if self._verified_by is not self.state.keys:  # what a key signed that is gone is void
            self._verified.clear()
            self._verified_by = self.state.keys
        principal = self._verified.get(token)
        if principal is None:
            principal = self._decode(token)
            self._verified[token] = principal
            if len(self._verified) > self._cache_size_max:
                self._verified.popitem(last=False)
        if principal.expires_at.timestamp() + CLOCK_SKEW_S <= self._clock.now().timestamp():
            self._verified.pop(token, None)
            raise _refusal("token_expired", "The access token has expired; refresh the session.")
        if self.state.has_ended(principal.session_id, principal.user_id, principal.issued_at):
            raise _refusal("session_ended", "The session has ended; sign in again.")
        return principal

    def _decode(self, token: str) -> Principal:
        invalid = functools.partial(_refusal, "token_invalid")
        if len(token) > TOKEN_LENGTH_MAX:
            raise invalid(f"The access token is longer than {TOKEN_LENGTH_MAX} characters.")
        try:
            header = jwt.get_unverified_header(token)
            key = self.state.keys.get(str(header.get("kid")))
            if key is None and not self.state.fresh:
                raise _unavailable()
            if header.get("typ") != TOKEN_TYPE or key is None:
                raise invalid("The access token is of another type or signed by an unknown key.")
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                options={
                    "require": ["exp", "iat", "sub", "sid", "role", "wallet", "created"],
                    "verify_exp": False,
                    "verify_iat": False,
                },
            )
            return _principal(claims)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError) as error:
            raise invalid("The access token is malformed or its signature is wrong.") from error


def _principal(claims: dict[str, Any]) -> Principal:
    if claims["role"] not in ROLES:
        raise ValueError("unknown role")
    return Principal(
        user_id=UUID(claims["sub"]),
        session_id=UUID(claims["sid"]),
        role=claims["role"],
        wallet_address=str(claims["wallet"]),
        created_at=datetime.fromtimestamp(claims["created"], UTC),
        issued_at=datetime.fromtimestamp(claims["iat"], UTC),
        expires_at=datetime.fromtimestamp(claims["exp"], UTC),
    )
