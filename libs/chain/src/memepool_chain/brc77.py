"""BRC-77: a signed message that names its signer, verifiable by anyone.

Version (4 bytes), signer's identity key (33), recipient (a zero byte for anyone, else 33), key id
(32 random bytes), DER signature over SHA-256 of the message by the BRC-42 child of the identity key
for the invoice number `2-message signing-<key id in base64>`.
"""

import base64
import os

from memepool_chain.brc42 import ANYONE, derive_private_key, invoice_number
from memepool_chain.brc100 import check_child, signer_of_identity
from memepool_chain.hashing import sha256
from memepool_chain.keys import PUBLIC_KEY_SIZE, PrivateKey, uncompressed
from memepool_chain.message import SignatureError, Signer
from memepool_chain.network import Network

SIZE_MAX = 4 + PUBLIC_KEY_SIZE + 1 + 32 + 72
_VERSION = bytes.fromhex("42423301")
_ANYONE = b"\0"
_KEY_ID_SIZE = 32
_SECURITY_LEVEL, _PROTOCOL = 2, "message signing"


def sign_brc77(message: str, key: PrivateKey) -> bytes:
    """Sign for anyone, with a key id drawn from the operating system's randomness."""
    key_id = os.urandom(_KEY_ID_SIZE)
    child = derive_private_key(key, ANYONE.public_key, _invoice(key_id))
    signature = child.sign_digest(sha256(message.encode("utf-8")))
    return _VERSION + key.public_key + _ANYONE + key_id + signature


def verify_brc77(message: str, signed: bytes, address: str, network: Network) -> Signer:
    """Return the signer if the key named in `signed` is behind this address and signed this.

    Raises:
        SignatureError: `malformed_signature` (also for a message that only a certain recipient
            could verify), `signature_mismatch`.
        AddressError: not an address of this network.
    """
    identity_key, key_id, signature = _parse(signed)
    signer = signer_of_identity(identity_key, address, network)
    check_child(message, signature, identity_key, _invoice(key_id))
    return signer


def _parse(signed: bytes) -> tuple[bytes, bytes, bytes]:
    """Return identity key, key id, DER signature."""
    start = len(_VERSION)
    if signed[:start] != _VERSION:
        raise _malformed("it does not begin with the version 42423301")
    identity_key = signed[start : start + PUBLIC_KEY_SIZE]
    try:
        uncompressed(identity_key)
    except ValueError:
        raise _malformed("it names no public key as its signer") from None
    start += PUBLIC_KEY_SIZE
    if signed[start : start + 1] != _ANYONE:
        raise _malformed("it is for a certain recipient; sign for anyone, without a verifier")
    start += len(_ANYONE)
    return identity_key, signed[start : start + _KEY_ID_SIZE], signed[start + _KEY_ID_SIZE :]


def _invoice(key_id: bytes) -> str:
    return invoice_number(_SECURITY_LEVEL, _PROTOCOL, base64.b64encode(key_id).decode("ascii"))


def _malformed(why: str) -> SignatureError:
    return SignatureError("malformed_signature", f"not a BRC-77 signed message for anyone: {why}")
