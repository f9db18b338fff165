"""BRC-42: keys that two parties derive for each other from their identity keys and a text.

The text is an "invoice number", `<security level>-<protocol>-<key id>` (BRC-43). The shared secret
of both identity keys, as a compressed point, keys an HMAC-SHA256 of it; the result is added to
either side's key. With the private key 1, which everybody knows, as the other party ("anyone"), the
shared secret is the identity key itself: so anyone can derive the public child key.
"""

import hashlib
import hmac

from memepool_chain.keys import PrivateKey, add_to_public_key

ANYONE = PrivateKey.from_bytes((1).to_bytes(32, "big"))


def invoice_number(security_level: int, protocol: str, key_id: str) -> str:
    """Write what a key is for, as BRC-43 lays it out."""
    return f"{security_level}-{protocol}-{key_id}"


def derive_private_key(key: PrivateKey, counterparty: bytes, invoice: str) -> PrivateKey:
    """Return the child of a private key, for this counterparty's public key and this text."""
    return key.add(_tweak(key.shared_secret(counterparty), invoice))


def derive_public_key(public_key: bytes, own: PrivateKey, invoice: str) -> bytes:
    """Return the compressed public half of the counterparty's child key; ValueError if no point."""
    return add_to_public_key(public_key, _tweak(own.shared_secret(public_key), invoice))


def _tweak(shared_secret: bytes, invoice: str) -> bytes:
    return hmac.new(shared_secret, invoice.encode("utf-8"), hashlib.sha256).digest()
