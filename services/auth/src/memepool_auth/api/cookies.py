"""The refresh token as a cookie, for our own pages.

Scripts cannot read it (HttpOnly), other hosts and plain HTTP cannot set it (the `__Host-` prefix of
RFC 6265bis), and other sites cannot make a browser send it (SameSite=Strict). It is looked at in
POST /auth/session with `cookie: true` only, and there only when the Origin header is exactly one of
ours: browsers write that header into every POST, and no script can change it.
"""

from collections.abc import Collection
from datetime import datetime

from fastapi import Request

from memepool_auth.domain.errors import OriginNotAllowedError

NAME = "__Host-memepool-refresh"
_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Strict"


def require_own_origin(request: Request, origins: Collection[str]) -> None:
    """Raise OriginNotAllowedError unless the request says that it comes from a page of ours."""
    given = request.headers.getlist("origin")
    if len(given) != 1 or given[0] not in origins:
        raise OriginNotAllowedError


def refresh_token_of(request: Request) -> str | None:
    """The refresh token that the browser holds for us."""
    return request.cookies.get(NAME) or None


def keeping(refresh_token: str, now: datetime, expires_at: datetime) -> str:
    """The Set-Cookie header that hands a refresh token to the browser."""
    age_s = max(0, int((expires_at - now).total_seconds()))
    return f"{NAME}={refresh_token}; Max-Age={age_s}; {_ATTRIBUTES}"


def clearing() -> str:
    """The Set-Cookie header that takes it away."""
    return f"{NAME}=; Max-Age=0; {_ATTRIBUTES}"
