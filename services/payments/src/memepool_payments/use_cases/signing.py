"""Large transfers: the caller's wallet signs the exact intent first."""

import secrets
from datetime import UTC, datetime

from memepool_chain.message import SignatureError, verify_bsm
from memepool_common.db import Database
from memepool_payments.domain.errors import (
    SignatureRefusedError,
    SignatureRequiredError,
    TooManyChallengesError,
)
from memepool_payments.domain.intent import Challenge, transfer_challenge
from memepool_payments.store import challenges, ledger
from memepool_payments.use_cases.transfers import Desk, Transfer

NONCE_BYTES = 24


async def require_signature(
    database: Database, desk: Desk, wanted: Transfer, nonce: str | None, signature: str | None
) -> None:
    """Return if the caller's wallet has signed this transfer, or its key has an answer already.

    A nonce is used up by the attempt, before the signature is looked at. Only when this returns
    may the transfer be posted; a process that dies in between has moved nothing.

    Raises:
        SignatureRequiredError: with a new challenge; no signature, or not of an open challenge
            for this intent.
        SignatureRefusedError: the wallet has not signed the challenge.
        TooManyChallengesError: the caller lets challenges lie.
    """
    user_id = wanted.sender.user_id
    if wanted.key is not None:
        async with database.read() as session:
            if await ledger.answered(session, wanted.scope, wanted.ledger_key):
                return
    message = None
    if nonce is not None and signature is not None:
        async with database.transaction() as session:
            message = await challenges.use(session, user_id, wanted.fingerprint, nonce)
    if message is None or signature is None:
        challenge = await _challenge(database, desk, wanted)
        raise SignatureRequiredError(
            {
                "nonce": challenge.nonce,
                "message": challenge.message,
                "expiresAt": challenge.expires_at.isoformat().replace("+00:00", "Z"),
            }
        )
    try:
        verify_bsm(message, signature, wanted.sender.wallet_address, desk.network)
    except SignatureError as error:
        raise SignatureRefusedError(error.code, error.detail) from error


async def _challenge(database: Database, desk: Desk, wanted: Transfer) -> Challenge:
    challenge = transfer_challenge(
        wallet_address=wanted.sender.wallet_address,
        recipient=wanted.recipient,
        amount=wanted.amount,
        fee=desk.fee,
        memo=wanted.memo,
        network=desk.network.name,
        nonce=secrets.token_urlsafe(NONCE_BYTES),
        now=datetime.now(UTC),
    )
    async with database.transaction() as session:
        kept = await challenges.add(session, wanted.sender.user_id, wanted.fingerprint, challenge)
    if not kept:
        raise TooManyChallengesError("Too many challenges are open; sign one, or wait.")
    return challenge
