"""Challenge and proof: a wallet shows that it holds its key.

These functions open their own transactions: a nonce stays used up when the check that follows
fails, and no connection is held while libsecp256k1 computes.
"""

import hashlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn, TypeVar

from memepool_auth.adapters import signatures
from memepool_auth.domain import backoff
from memepool_auth.domain.challenge import PURPOSE, Challenge, new_challenge
from memepool_auth.domain.client import Client
from memepool_auth.domain.errors import (
    AuthError,
    NonceExpiredError,
    NonceForeignError,
    NonceRequiredError,
    NonceUnknownError,
    NonceUsedError,
    NoOpenChallengeError,
    SignInRefusedError,
    TooManyAttemptsError,
)
from memepool_auth.domain.session import GRANT_LIFETIME
from memepool_auth.domain.user import User, require_active
from memepool_auth.events import user_registered
from memepool_auth.settings import SignInSettings
from memepool_auth.store import attempts, challenges, sessions, users
from memepool_auth.use_cases.users import apply_first_admin, projection
from memepool_chain.message import Signer
from memepool_common import audit
from memepool_common.db import Database, Session
from memepool_common.events import outbox
from memepool_common.ids import uuid7

Given = TypeVar("Given")
NONCE_BYTES = 16
GRANT_BYTES = 32
TOTAL_SLACK_PART = 100
"""Counting all challenges is dear: one request in this part of the limit does it, and when there
are too many, as many give way at once."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a wallet hands in. `public_key` is the uncompressed form; brc100 needs one."""

    wallet_address: str
    signature: str
    nonce: str | None
    scheme: str
    public_key: bytes | None


async def issue_challenge(
    session: Session, settings: SignInSettings, wallet_address: str, client: Client
) -> Challenge:
    """A new text for a wallet to sign.

    The limits may be passed by as many requests as are being served at one moment.
    """
    await _make_room(session, settings, client.address_key)
    challenge = new_challenge(
        domain=settings.domain,
        statement=settings.statement,
        network=settings.network,
        wallet_address=wallet_address,
        nonce=secrets.token_hex(NONCE_BYTES),
        request_id=uuid7(),
        now=await challenges.database_time(session),
    )
    await challenges.add(session, challenge, client.address_key)
    return challenge


async def prove(
    database: Database,
    settings: SignInSettings,
    proof: Proof,
    client: Client,
    give: Callable[[Session, User], Awaitable[Given]],
) -> Given:
    """What `give` gives to the user whose wallet this is, who is created at first sight.

    Proof and gift are one change; the nonce is used up in any case.

    Raises:
        SignInRefusedError, BadCredentialsError: nonce or signature is not good.
        TooManyAttemptsError: the same, from where it has gone wrong too often.
        AccountSuspendedError: the wallet is its owner's, who may not come in.
    """
    try:
        async with database.transaction() as session:
            nonce, message = await _consume(session, proof, client, settings.domain)
    except SignInRefusedError as refusal:
        await _refuse(database, settings, proof, refusal, client, over_signature=False)
    try:
        signer = signatures.verify(
            signatures.Signed(proof.scheme, message, nonce, proof.signature, proof.wallet_address),
            settings.network,
            proof.public_key,
        )
    except AuthError as refusal:
        await _refuse(database, settings, proof, refusal, client, over_signature=True)
    async with database.transaction() as session:
        scope = attempts.wallet_from(proof.wallet_address, client.address_key)
        await attempts.forget(session, scope)
        user = await _user_of(session, settings, signer, client)
        require_active(user)
        return await give(session, user)


async def issue_grant(session: Session, user: User) -> str:
    """A one-time grant for a session, good for a minute; kept as a hash."""
    grant = secrets.token_urlsafe(GRANT_BYTES)
    await sessions.add_grant(session, secret_hash(grant), user.id, GRANT_LIFETIME)
    return grant


def secret_hash(secret: str) -> bytes:
    """How a random secret of ours is kept and found. It has 256 bits: no salt is needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


async def _make_room(session: Session, settings: SignInSettings, address_key: str) -> None:
    kept = settings.challenges_per_address_max - 1
    await challenges.drop_oldest_of_address(session, address_key, kept)
    slack = settings.challenges_max // TOTAL_SLACK_PART
    if secrets.randbelow(slack + 1) > 0:
        return
    if await challenges.total(session, settings.challenges_max) >= settings.challenges_max:
        await challenges.drop_oldest(session, slack + 1)


async def _consume(session: Session, proof: Proof, client: Client, domain: str) -> tuple[str, str]:
    """Nonce and message of the challenge that the proof is for, which is used up by this."""
    nonce = proof.nonce or await _only_nonce(session, proof, client, domain)
    message = await challenges.consume(session, nonce, proof.wallet_address, domain)
    if message is not None:
        return nonce, message
    found = await challenges.find(session, nonce)
    if found is None:
        raise NonceUnknownError
    if (found.wallet_address, found.domain, found.purpose) != (
        proof.wallet_address,
        domain,
        PURPOSE,
    ):
        raise NonceForeignError
    raise NonceUsedError if found.used else NonceExpiredError


async def _only_nonce(session: Session, proof: Proof, client: Client, domain: str) -> str:
    """The nonce that may be left out.

    Whoever leaves it out uses up what they may not have asked for. So this finds nothing that was
    asked for from elsewhere, and nothing while wrong signatures are being held off.
    """
    scope = attempts.wallet_from(proof.wallet_address, client.address_key)
    if await attempts.wait_s(session, [scope]) is not None:
        raise NonceRequiredError(NonceRequiredError.while_held_off)
    nonces = await challenges.open_nonces(session, proof.wallet_address, client.address_key, domain)
    if not nonces:
        raise NoOpenChallengeError
    if len(nonces) > 1:
        raise NonceRequiredError
    return nonces[0]


async def _refuse(
    database: Database,
    settings: SignInSettings,
    proof: Proof,
    refusal: AuthError,
    client: Client,
    *,
    over_signature: bool,
) -> NoReturn:
    """Count the failure and raise the refusal; or TooManyAttemptsError while held off.

    Only a bad signature counts for the wallet, and stands in its owner's audit feed.
    """
    scopes = {attempts.address(client.address_key): settings.address_failures_free}
    if over_signature:
        here = attempts.wallet_from(proof.wallet_address, client.address_key)
        scopes[here] = settings.wallet_failures_free
        anywhere = attempts.wallet_anywhere(proof.wallet_address)
        scopes[anywhere] = settings.wallet_failures_everywhere_free
    async with database.transaction() as session:
        waiting_s = await attempts.wait_s(session, list(scopes))
        if waiting_s is None:
            for scope, free in scopes.items():
                failures = await attempts.count(session, scope, backoff.FORGOTTEN_AFTER)
                wait = timedelta(seconds=backoff.wait_s(failures, free))
                if wait:
                    await attempts.hold_off(session, scope, wait)
            if over_signature:
                await _record_refusal(session, proof, refusal, client)
    if waiting_s is not None:
        raise TooManyAttemptsError(waiting_s) from refusal
    raise refusal


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
