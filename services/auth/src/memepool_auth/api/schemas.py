"""Requests and answers of auth, as they are on the wire."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field, field_validator

from memepool_auth.domain.challenge import BRC100_PROTOCOL, BRC100_SECURITY_LEVEL, Challenge
from memepool_auth.domain.session import ACCESS_TOKEN_LIFETIME
from memepool_auth.domain.session import Session as SignInSession
from memepool_auth.domain.user import Role
from memepool_auth.domain.user import Stats as UserStats
from memepool_auth.domain.user import User as DomainUser
from memepool_auth.use_cases.sessions import Tokens
from memepool_chain.brc100 import COUNTERPARTY
from memepool_common.web.model import RequestModel, Timestamp, WireModel

WalletAddress = Annotated[
    str, Field(min_length=1, max_length=64, description="A P2PKH address of this network")
]
Secret = Annotated[str, Field(min_length=1, max_length=256)]


class ChallengeRequest(RequestModel):
    """Who wants to sign in."""

    wallet_address: WalletAddress


class Brc100Parameters(WireModel):
    """For a BRC-100 wallet's `createSignature`; its data are the message's UTF-8 bytes."""

    protocol_id: tuple[int, str]
    key_id: str
    counterparty: str


class ChallengeAnswer(WireModel):
    """The exact text to sign, and with which key a BRC-100 wallet does so."""

    nonce: str
    message: str
    expires_at: Timestamp
    brc100: Brc100Parameters

    @classmethod
    def of(cls, challenge: Challenge) -> Self:
        """As it goes out."""
        return cls(
            nonce=challenge.nonce,
            message=challenge.message,
            expires_at=challenge.expires_at,
            brc100=Brc100Parameters(
                protocol_id=(BRC100_SECURITY_LEVEL, BRC100_PROTOCOL),
                key_id=challenge.nonce,
                counterparty=COUNTERPARTY,
            ),
        )


class VerifyRequest(RequestModel):
    """The signed challenge. Without a signature, the answer brings a challenge to sign."""

    wallet_address: WalletAddress
    signature: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    nonce: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        default=None, description="May be left out while exactly one challenge is open"
    )
    scheme: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        default="bsm",
        description="bsm: Bitcoin Signed Message; brc100: createSignature with the challenge's"
        " parameters, DER in base64; brc77: a signed message for anyone, in base64",
    )
    public_key: Annotated[str, Field(max_length=130)] | None = Field(
        default=None,
        description="In hex; brc100 needs the identity key. If given, it must be the signer's",
    )


class SessionRequest(RequestModel):
    """One of `grant`, `refreshToken`, the fields of POST /auth/verify; or `cookie` alone."""

    grant: Secret | None = None
    refresh_token: Secret | None = None
    wallet_address: WalletAddress | None = None
    signature: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    nonce: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    scheme: Annotated[str, Field(min_length=1, max_length=64)] = "bsm"
    public_key: Annotated[str, Field(max_length=130)] | None = None
    cookie: Annotated[bool, Field(strict=True)] = Field(
        default=False,
        description="For our own pages in a browser: the refresh token travels as a cookie only."
        " Without any credential, the one in the cookie is used",
    )


class Stats(WireModel):
    """What a user has done. Amounts in satoshis."""

    uploads: int
    submissions: int
    votes: int
    sats_staked: int
    rounds_won: int
    sats_earned: int


class User(WireModel):
    """A user."""

    id: UUID
    wallet_address: str
    role: Role
    created_at: Timestamp
    stats: Stats

    @classmethod
    def of(cls, user: DomainUser, stats: UserStats) -> Self:
        """As it goes out."""
        return cls(
            id=user.id,
            wallet_address=user.wallet_address,
            role=user.role,
            created_at=user.created_at,
            stats=Stats(
                uploads=stats.uploads,
                submissions=stats.submissions,
                votes=stats.votes,
                sats_staked=stats.sats_staked,
                rounds_won=stats.rounds_won,
                sats_earned=stats.sats_earned,
            ),
        )


class VerifyAnswer(WireModel):
    """The grant opens one session within a minute."""

    user: User
    grant: str


class SessionModel(WireModel):
    """One sign-in on one device. `addressPrefix` is IPv4 /24 or IPv6 /64."""

    id: UUID
    device: str | None
    address_prefix: str | None
    created_at: Timestamp
    last_used_at: Timestamp
    expires_at: Timestamp
    current: bool

    @classmethod
    def of(cls, session: SignInSession, current_id: UUID) -> Self:
        """As it goes out to the session `current_id`."""
        return cls(
            id=session.id,
            device=session.device,
            address_prefix=session.address_prefix,
            created_at=session.created_at,
            last_used_at=session.last_used_at,
            expires_at=session.expires_at,
            current=session.id == current_id,
        )


class SessionAnswer(WireModel):
    """Tokens. `expiresIn` is in seconds; a refresh token is good once, null if in a cookie."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    refresh_token: str | None
    session: SessionModel
    user: User

    @classmethod
    def of(cls, tokens: Tokens, *, in_cookie: bool) -> Self:
        """As it goes out."""
        return cls(
            access_token=tokens.access_token,
            token_type="Bearer",  # noqa: S106 - RFC 6750's word, not a secret
            expires_in=int(ACCESS_TOKEN_LIFETIME.total_seconds()),
            refresh_token=None if in_cookie else tokens.refresh_token,
            session=SessionModel.of(tokens.session, tokens.session.id),
            user=User.of(tokens.user, tokens.stats),
        )


class ProfileChange(RequestModel):
    """What to change of one's own profile; what is absent stays."""

    role: Role | None = None

    @field_validator("role", mode="before")
    @classmethod
    def _not_cleared(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("a role cannot be cleared; leave it out or send creator")
        return value


class RoleAssignment(RequestModel):
    """The role that a user shall have."""

    role: Role


class SuspensionRequest(RequestModel):
    """Why the user is suspended: for the audit log."""

    reason: Annotated[str, Field(max_length=500)] | None = None


class Suspension(WireModel):
    """A suspension in force."""

    user_id: UUID
    suspended_at: Timestamp | None

    @classmethod
    def of(cls, user: DomainUser) -> Self:
        """As it goes out."""
        return cls(user_id=user.id, suspended_at=user.suspended_at)


class Jwk(WireModel):
    """A public key (RFC 7517)."""

    kty: str
    crv: str
    x: str
    y: str
    kid: str
    alg: str
    use: str


class Jwks(WireModel):
    """The keys that sign access tokens, several while one takes over from another."""

    keys: list[Jwk]
