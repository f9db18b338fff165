"""Challenge and proof: a wallet shows that it holds its key.

These functions open their own transactions: a nonce stays used up when the check that follows
fails, and no connection is held while libsecp256k1 computes.
"""

import hashlib
import secrets
from dataclasses import dataclass

from memepool_auth.adapters import signatures
from memepool_auth.domain.challenge import Challenge, new_challenge
from memepool_auth.domain.client import Client
from memepool_auth.domain.errors import (
    AuthError,
    NonceExpiredError,
    NonceForeignError,
    NonceRequiredError,
    NonceUnknownError,
    NonceUsedError,
    NoOpenChallengeError,
    SchemeNotAcceptedError,
    TooManyChallengesError,
)
from memepool_auth.domain.session import GRANT_LIFETIME
from memepool_auth.domain.user import User, require_active
from memepool_auth.events import user_registered
from memepool_auth.settings import SignInSettings
from memepool_auth.store import challenges, sessions, users
from memepool_auth.use_cases.users import apply_first_admin, projection
from memepool_chain.message import Signer
from memepool_common import audit
from memepool_common.db import Database, Session
from memepool_common.events import outbox
from memepool_common.ids import uuid7

NONCE_BYTES = 16
GRANT_BYTES = 32


@dataclass(frozen=True, slots=True)
class Proof:
    """What a wallet hands in. `public_key` is the uncompressed form, if one was sent."""

    wallet_address: str
    signature: str
    nonce: str | None
    scheme: str
    public_key: bytes | None


async def issue_challenge(
    session: Session, settings: SignInSettings, wallet_address: str, client: Client
) -> Challenge:
    """A new text for a wallet to sign.

    There is no limit on a wallet alone, for strangers could use it to lock its owner out. The
    limits may be passed by as many requests as are being served at one moment.

    Raises:
        TooManyChallengesError: too many are open from this network, or in all.
    """
    await _require_room(session, settings, wallet_address, client.address_prefix)
    challenge = new_challenge(
        domain=settings.domain,
        statement=settings.statement,
        network=settings.network,
        wallet_address=wallet_address,
        nonce=secrets.token_hex(NONCE_BYTES),
        request_id=uuid7(),
        now=await challenges.database_time(session),
    )
    await challenges.add(session, challenge, client.address_prefix)
    return challenge


def require_accepted(scheme: str) -> None:
    """Raise SchemeNotAcceptedError, naming what is accepted."""
    if scheme not in signatures.ACCEPTED_SCHEMES:
        raise SchemeNotAcceptedError(scheme[:32], signatures.ACCEPTED_SCHEMES)


async def prove(database: Database, settings: SignInSettings, proof: Proof, client: Client) -> User:
    """The user whose wallet this is, created at first sight. The nonce is used up in any case.

    Raises:
        SignInRefusedError, BadCredentialsError: nonce or signature is not good.
        AccountSuspendedError: the wallet is its owner's, who may not come in.
    """
    async with database.transaction() as session:
        message = await _consume(session, proof)
    try:
        signer = await signatures.verify(
            message, proof.signature, proof.wallet_address, settings.network, proof.public_key
        )
    except AuthError as refusal:
        async with database.transaction() as session:
            await _record_refusal(session, proof, refusal, client)
        raise
    async with database.transaction() as session:
        user = await _user_of(session, settings, signer, client)
    require_active(user)
    return user


async def issue_grant(session: Session, user: User) -> str:
    """A one-time grant for a session, good for a minute; kept as a hash."""
    grant = secrets.token_urlsafe(GRANT_BYTES)
    await sessions.add_grant(session, secret_hash(grant), user.id, GRANT_LIFETIME)
    return grant


def secret_hash(secret: str) -> bytes:
    """How a random secret of ours is kept and found. It has 256 bits: no salt is needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


async def _require_room(
    session: Session, settings: SignInSettings, wallet_address: str, prefix: str | None
) -> None:
    wallet_max = settings.challenges_per_wallet_max
    prefix_max = settings.challenges_per_network_max
    taken = await challenges.occupancy(
        session,
        wallet_address,
        prefix,
        wallet_max=wallet_max,
        prefix_max=prefix_max,
        total_max=settings.challenges_max,
    )
    for scope, count, limit, words in (
        ("wallet", taken.wallet, wallet_max, "open for this wallet from your network"),
        ("prefix", taken.prefix, prefix_max, "from your network in the last five minutes"),
        ("total", taken.total, settings.challenges_max, "in all in the last five minutes"),
    ):
        if count >= limit:
            wait_s = await challenges.wait_s(session, scope, wallet_address, prefix)
            raise TooManyChallengesError(words, limit, wait_s)


async def _consume(session: Session, proof: Proof) -> str:
    nonce = proof.nonce
    if nonce is None:
        nonces = await challenges.open_nonces(session, proof.wallet_address)
        if not nonces:
            raise NoOpenChallengeError
        if len(nonces) > 1:
            raise NonceRequiredError
        nonce = nonces[0]
    message = await challenges.consume(session, nonce, proof.wallet_address)
    if message is not None:
        return message
    found = await challenges.find(session, nonce)
    if found is None:
        raise NonceUnknownError
    if found.wallet_address != proof.wallet_address:
        raise NonceForeignError
    raise NonceUsedError if found.used else NonceExpiredError


async def _record_refusal(
    session: Session, proof: Proof, refusal: AuthError, client: Client
) -> None:
    """The owner of the wallet reads of the attempt in their own feed."""
    await audit.record(
        session,
        actor_id=None,
        account_id=await users.id_of_wallet(session, proof.wallet_address),
        action="auth.sign_in.refused",
        subject=proof.wallet_address,
        outcome=refusal.code,
        address=client.address_prefix,
    )


async def _user_of(
    session: Session, settings: SignInSettings, signer: Signer, client: Client
) -> User:
    created = await users.register(session, uuid7(), signer.address)
    user = await users.of_wallet(session, signer.address)
    if created:
        await outbox.append(session, [user_registered(projection(user), user.version)])
        await audit.record(
            session,
            actor_id=user.id,
            account_id=user.id,
            action="auth.user.registered",
            subject=str(user.id),
            address=client.address_prefix,
        )
    return await apply_first_admin(session, settings.first_admin, settings.network, user, signer)
