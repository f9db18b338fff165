"""The text that a wallet signs to sign in.

Its layout is that of EIP-4361 ("Sign-In with Ethereum"), with the fields that CAIP-122 makes
mandatory for any chain. The text is ours, stored and verified as stored: whatever copy of it a
client holds decides nothing.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

MESSAGE_BYTES_MAX = 1_000
LIFETIME = timedelta(minutes=5)
PURPOSE = "sign_in"
BRC100_SECURITY_LEVEL = 2
BRC100_PROTOCOL = "memepool login"
"""With the nonce as key id, this names the key of a BRC-100 wallet that signs one challenge."""

CHAIN_IDS = {
    # CAIP-2: a prefix of a block hash. The genesis block is shared with BTC, so the main network
    # is named by its first block of its own, 556767, as Bitcoin Cash is by its.
    "main": "bip122:000000000000000001d956714215d96f",
    "test": "bip122:000000000933ea01ad0ee984209779ba",
    "regtest": "bip122:0f9188f13cb7b2c71f2a335e3a4fc328",
}


@dataclass(frozen=True, slots=True)
class Challenge:
    """A text to sign, good for one attempt until it expires."""

    nonce: str
    wallet_address: str
    domain: str
    message: str
    issued_at: datetime
    expires_at: datetime


def new_challenge(
    *,
    domain: str,
    statement: str,
    network: str,
    wallet_address: str,
    nonce: str,
    request_id: UUID,
    now: datetime,
) -> Challenge:
    """The challenge for a wallet, from `now`; the text says the second, and expiry counts from it.

    Raises:
        ValueError: the text is not ASCII or longer than a wallet should have to show.
    """
    issued_at = now.astimezone(UTC)
    expires_at = issued_at.replace(microsecond=0) + LIFETIME
    message = (
        f"{domain} wants you to sign in with your BSV account:\n"
        f"{wallet_address}\n"
        "\n"
        f"{statement}\n"
        "\n"
        f"URI: https://{domain}/login\n"
        "Version: 1\n"
        f"Chain ID: {CHAIN_IDS[network]}\n"
        f"Nonce: {nonce}\n"
        f"Issued At: {_rfc3339(issued_at)}\n"
        f"Expiration Time: {_rfc3339(expires_at)}\n"
        f"Request ID: {request_id}"
    )
    if not message.isascii() or len(message) > MESSAGE_BYTES_MAX:
        raise ValueError(f"the text must be ASCII of at most {MESSAGE_BYTES_MAX} bytes")
    return Challenge(nonce, wallet_address, domain, message, issued_at, expires_at)


def _rfc3339(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")
