"""Large transfers: the caller's wallet signs the exact intent first."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from memepool_chain.brc100 import COUNTERPARTY, Purpose, verify_brc100
from memepool_chain.keys import uncompressed
from memepool_chain.message import SignatureError, decode_signature, verify_bsm
from memepool_chain.network import Network
from memepool_common.db import Database
from memepool_payments.domain.errors import (
    SignatureRefusedError,
    SignatureRequiredError,
    TooManyChallengesError,
)
from memepool_payments.domain.intent import (
    BRC100_PROTOCOL,
    BRC100_SECURITY_LEVEL,
    Challenge,
    transfer_challenge,
)
from memepool_payments.domain.journal import request_hash
from memepool_payments.store import challenges, ledger
from memepool_payments.use_cases.transfers import Desk, Transfer

NONCE_BYTES = 24
DER_SIZE_MAX = 72


@dataclass(frozen=True, slots=True)
class Proof:
    """What a caller hands in. `public_key` is a BRC-100 wallet's identity key, in hex."""

    nonce: str
    signature: str
    scheme: str
    public_key: str | None


async def require_signature(
    database: Database, desk: Desk, wanted: Transfer, proof: Proof | None
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
    if proof is not None:
        async with database.transaction() as session:
            message = await challenges.use(session, user_id, _intent(desk, wanted), proof.nonce)
    if proof is None or message is None:
        raise SignatureRequiredError(_shown(await _challenge(database, desk, wanted)))
    try:
        _verify(message, proof, wanted.sender.wallet_address, desk.network)
    except SignatureError as error:
        raise SignatureRefusedError(error.code, error.detail) from error


def _intent(desk: Desk, wanted: Transfer) -> bytes:
    """What was signed, and the fee: a setting that may have changed since then."""
    return request_hash(wanted.fingerprint, desk.poster.rules.fee)


def _verify(message: str, proof: Proof, wallet_address: str, network: Network) -> None:
    if proof.scheme == "bsm":
        verify_bsm(message, proof.signature, wallet_address, network)
        return
    signature = decode_signature(proof.signature, size_max=DER_SIZE_MAX)
    purpose = Purpose(BRC100_SECURITY_LEVEL, BRC100_PROTOCOL, proof.nonce)
    try:
        identity_key = uncompressed(bytes.fromhex(proof.public_key or ""))
    except ValueError:
        raise SignatureError("malformed_public_key", "the public key is none") from None
    verify_brc100(message, signature, purpose, identity_key, wallet_address, network)


def _shown(challenge: Challenge) -> dict[str, object]:
    return {
        "nonce": challenge.nonce,
        "message": challenge.message,
        "expiresAt": challenge.expires_at.isoformat().replace("+00:00", "Z"),
        "brc100": {
            "protocolId": [BRC100_SECURITY_LEVEL, BRC100_PROTOCOL],
            "keyId": challenge.nonce,
            "counterparty": COUNTERPARTY,
        },
    }


async def _challenge(database: Database, desk: Desk, wanted: Transfer) -> Challenge:
    challenge = transfer_challenge(
        wallet_address=wanted.sender.wallet_address,
        recipient=wanted.recipient,
        amount=wanted.amount,
        fee=desk.poster.rules.fee,
        memo=wanted.memo,
        network=desk.network.name,
        nonce=secrets.token_urlsafe(NONCE_BYTES),
        now=datetime.now(UTC),
    )
    async with database.transaction() as session:
        intent = _intent(desk, wanted)
        kept = await challenges.add(session, wanted.sender.user_id, intent, challenge)
    if not kept:
        raise TooManyChallengesError("Too many challenges are open; sign one, or wait.")
    return challenge
