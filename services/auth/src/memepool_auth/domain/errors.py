"""Everything that auth refuses.

AuthError
├── SignInRefusedError            401, sign in again
│   ├── NonceUnknownError             nonce_unknown
│   ├── NonceUsedError                nonce_used
│   ├── NonceExpiredError             nonce_expired
│   ├── NonceForeignError             nonce_foreign
│   ├── NoOpenChallengeError          no_open_challenge
│   ├── SignatureMismatchError        signature_mismatch
│   ├── PublicKeyMismatchError        public_key_mismatch
│   ├── GrantUnknownError             grant_unknown
│   ├── GrantUsedError                grant_used
│   ├── GrantExpiredError             grant_expired
│   ├── RefreshTokenUnknownError      refresh_token_unknown
│   ├── RefreshTokenReusedError       refresh_token_reused
│   ├── RefreshCookieMissingError     refresh_cookie_missing
│   ├── SessionEndedError             session_ended
│   └── SessionExpiredError           session_expired
├── BadCredentialsError           422, the request itself is wrong
│   ├── NonceRequiredError            nonce_required
│   ├── SchemeNotAcceptedError        scheme_not_accepted
│   ├── MalformedSignatureError       malformed_signature
│   ├── SegwitSignatureError          segwit_signature
│   ├── MalformedPublicKeyError       malformed_public_key
│   └── PublicKeyRequiredError        public_key_required
├── ForbiddenError                403
│   ├── AccountSuspendedError         account_suspended
│   ├── OriginNotAllowedError         origin_not_allowed
│   ├── RoleNotSelfAssignableError    role_not_self_assignable
│   └── NoLongerAdminError            role_required
├── NotFoundError                 404
│   ├── UserNotFoundError             user_not_found
│   └── SessionNotFoundError          session_not_found
├── SessionGoneError              410  session_gone
├── LastAdminError                409  last_admin
└── TooManyAttemptsError          429  too_many_attempts

No code of a sign-in tells whether a wallet has ever been seen here.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class AuthError(Exception):
    """A refusal: `code` is stable, the message says what is wrong and what helps."""

    code: ClassVar[str]
    detail: ClassVar[str] = ""
    headers: Mapping[str, str] = {}
    extra: Mapping[str, Any] = {}

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.detail)


class SignInRefusedError(AuthError):
    """The caller has not proven who they are."""

    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


class NonceUnknownError(SignInRefusedError):
    """We gave out no such nonce, or so long ago that it is forgotten."""

    code = "nonce_unknown"
    detail = "No challenge has this nonce; ask for a new one with POST /auth/challenge."


class NonceUsedError(SignInRefusedError):
    """The first attempt used it up, whatever came of it."""

    code = "nonce_used"
    detail = "This nonce has been used; each attempt needs a new challenge."


class NonceExpiredError(SignInRefusedError):
    """The challenge was signed too late."""

    code = "nonce_expired"
    detail = "The challenge has expired; ask for a new one with POST /auth/challenge."


class NonceForeignError(SignInRefusedError):
    """The challenge was given to another wallet, or by another site on the same database."""

    code = "nonce_foreign"
    detail = "This nonce belongs to a challenge for another wallet address or site."


class NoOpenChallengeError(SignInRefusedError):
    """A signature came without a nonce, and nothing is open for the wallet."""

    code = "no_open_challenge"
    detail = (
        "You have no open challenge for this wallet address; ask for one with POST /auth/challenge,"
        " or send its nonce."
    )


class SignatureMismatchError(SignInRefusedError):
    """A well-formed signature, by another key or over another text."""

    code = "signature_mismatch"
    detail = "The signature is not by this wallet address over the message of the challenge."


class PublicKeyMismatchError(SignInRefusedError):
    """The key in the request did not make the signature."""

    code = "public_key_mismatch"
    detail = "The signature is not by the public key in the request."


class GrantUnknownError(SignInRefusedError):
    """We gave out no such grant, or so long ago that it is forgotten."""

    code = "grant_unknown"
    detail = "There is no such grant; POST /auth/verify gives one."


class GrantUsedError(SignInRefusedError):
    """A grant opens one session."""

    code = "grant_used"
    detail = "This grant has been used; POST /auth/verify gives a new one."


class GrantExpiredError(SignInRefusedError):
    """A grant is for at once."""

    code = "grant_expired"
    detail = "This grant has expired; POST /auth/verify gives a new one."


class RefreshTokenUnknownError(SignInRefusedError):
    """We gave out no such token, or so long ago that it is forgotten."""

    code = "refresh_token_unknown"
    detail = "There is no such refresh token; sign in again."


class RefreshTokenReusedError(SignInRefusedError):
    """It was used before: one of the two users stole it, so neither goes on."""

    code = "refresh_token_reused"
    detail = "This refresh token had been used before, so its session has ended; sign in again."


class RefreshCookieMissingError(SignInRefusedError):
    """`cookie: true` alone means the refresh token in the cookie, and none came."""

    code = "refresh_cookie_missing"
    detail = "There is no refresh token in a cookie; sign in."


class SessionEndedError(SignInRefusedError):
    """The session was ended by its owner, by an admin or by a reused token."""

    code = "session_ended"
    detail = "The session has ended; sign in again."


class SessionExpiredError(SignInRefusedError):
    """The session was unused for too long, or has reached its greatest age."""

    code = "session_expired"
    detail = "The session has expired; sign in again."


class BadCredentialsError(AuthError):
    """What was sent cannot be right, whoever sends it."""


class NonceRequiredError(BadCredentialsError):
    """Without a nonce we would have to guess which challenge was signed."""

    code = "nonce_required"
    detail = (
        "Several challenges are open for this wallet address; send the nonce of the signed one."
    )
    while_held_off: ClassVar[str] = (
        "Attempts for this wallet address have failed; send the nonce of the signed challenge."
    )


class SchemeNotAcceptedError(BadCredentialsError):
    """The signature scheme is not one of ours."""

    code = "scheme_not_accepted"

    def __init__(self, scheme: str, accepted: tuple[str, ...]) -> None:
        super().__init__(f"The scheme {scheme!r} is not accepted; accepted: {', '.join(accepted)}.")
        self.extra = {"accepted": list(accepted)}


class MalformedSignatureError(BadCredentialsError):
    """Not a signature of the scheme that was named."""

    code = "malformed_signature"


class SegwitSignatureError(BadCredentialsError):
    """A wallet signed for an address form that BSV does not have."""

    code = "segwit_signature"


class MalformedPublicKeyError(BadCredentialsError):
    """Not a public key."""

    code = "malformed_public_key"
    detail = "publicKey must be a secp256k1 public key in hex: 33 bytes, or 65 uncompressed."


class PublicKeyRequiredError(BadCredentialsError):
    """A brc100 signature is by a child of the identity key, which it does not show."""

    code = "public_key_required"
    detail = "The scheme brc100 needs publicKey: the wallet's identity key in hex."


class ForbiddenError(AuthError):
    """We know who asks, and they may not."""


class AccountSuspendedError(ForbiddenError):
    """An admin has suspended the account."""

    code = "account_suspended"
    detail = "This account is suspended."


class OriginNotAllowedError(ForbiddenError):
    """A page of another site tries to use our cookie, or a request that is no browser's."""

    code = "origin_not_allowed"
    detail = "A session by cookie is for our own pages: the Origin header must be exactly ours."


class RoleNotSelfAssignableError(ForbiddenError):
    """Only one change of role is one's own to make."""

    code = "role_not_self_assignable"
    detail = "The one change you can make yourself is from viewer to creator."


class NoLongerAdminError(ForbiddenError):
    """The token still says admin, the account no longer does."""

    code = "role_required"
    detail = "This call is for admins."


class NotFoundError(AuthError):
    """There is no such thing, or none that the caller may know of."""


class UserNotFoundError(NotFoundError):
    """Nobody has this id."""

    code = "user_not_found"
    detail = "There is no user with this id."


class SessionNotFoundError(NotFoundError):
    """The caller has no session with this id."""

    code = "session_not_found"
    detail = "You have no session with this id."


class SessionGoneError(AuthError):
    """The caller's session with this id is over already."""

    code = "session_gone"
    detail = "This session has ended already."


class LastAdminError(AuthError):
    """Somebody must be left who can undo it."""

    code = "last_admin"
    detail = "This is the last active admin; make somebody else an admin first."


class TooManyAttemptsError(AuthError):
    """Wrong attempts get no more said to them for a while. It goes by itself."""

    code = "too_many_attempts"

    def __init__(self, retry_after_s: int) -> None:
        detail = (
            f"Too many failed attempts; failed ones get this answer for another {retry_after_s} s."
            " A right signature is accepted at any time."
        )
        super().__init__(detail)
        self.headers = {"Retry-After": str(retry_after_s)}
