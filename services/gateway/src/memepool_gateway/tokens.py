"""The token check at the edge. Services check again: nothing trusts the gateway's word."""

from collections.abc import Sequence

from memepool_common.tokens import Principal, TokenVerifier
from memepool_common.web.problem import Problem

_READS = frozenset({"GET", "HEAD", "OPTIONS"})


def check_token(
    tokens: TokenVerifier, method: str, authorization: Sequence[str]
) -> Principal | None:
    """Whose token it is; None without one, as services decide what is public.

    Raises:
        Problem: 401 `token_invalid`, `token_expired`, `session_ended`; 503 `auth_unavailable`
            when it cannot be told whether the session still is valid, for writes, or for all when
            auth has never answered.
    """
    if not authorization:
        return None
    scheme, _, token = authorization[0].partition(" ")
    if len(authorization) > 1 or scheme.lower() != "bearer" or not token.strip():
        detail = "The Authorization header must be 'Bearer <access token>', once."
        raise Problem(401, "token_invalid", detail, headers={"WWW-Authenticate": "Bearer"})
    state = tokens.state
    if not state.known or (method not in _READS and not state.fresh):
        detail = "Whether your session is still valid cannot be told right now. Try again."
        raise Problem(503, "auth_unavailable", detail, headers={"Retry-After": "1"})
    return tokens.verify(token.strip())
