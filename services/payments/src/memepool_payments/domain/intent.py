"""What a wallet signs before money leaves: the exact intent, in words that a person can check."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

LIFETIME = timedelta(minutes=5)
BRC100_SECURITY_LEVEL = 2
BRC100_PROTOCOL = "memepool transfer"
"""With the nonce as key id, this names the key of a BRC-100 wallet that signs one challenge."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A text to sign, good for one attempt until it expires."""

    nonce: str
    message: str
    expires_at: datetime


def transfer_challenge(
    *,
    wallet_address: str,
    recipient: str,
    amount: int,
    fee: int,
    memo: str | None,
    network: str,
    nonce: str,
    now: datetime,
) -> Challenge:
    """The challenge for one transfer. All ASCII, a line each: no memo can pretend to be one.

    `nonce` is fresh, of at least 128 random bits, in characters of base64url.
    """
    expires_at = (now.astimezone(UTC) + LIFETIME).replace(microsecond=0)
    message = (
        "Memepool transfer: sign only if this is what you want to send.\n"
        f"Network: {network}\n"
        f"From: {wallet_address}\n"
        f"To: {recipient}\n"
        f"Amount: {amount} satoshis\n"
        f"Fee: {fee} satoshis\n"
        f"Memo: {json.dumps(memo)}\n"
        f"Nonce: {nonce}\n"
        f"Expiration Time: {expires_at.strftime('%Y-%m-%dT%H:%M:%SZ')}"
    )
    return Challenge(nonce, message, expires_at)
