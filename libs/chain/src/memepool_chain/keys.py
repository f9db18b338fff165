"""secp256k1 private keys; libsecp256k1 does the arithmetic."""

from typing import Self

import coincurve
from coincurve.ecdsa import cdata_to_der, der_to_cdata, signature_normalize

PUBLIC_KEY_SIZE = 33
_SECRET_SIZE = 32


class PrivateKey:
    """A private key. Its repr shows nothing of the secret."""

    __slots__ = ("_key",)

    def __init__(self, key: coincurve.PrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> Self:
        """Draw a key from the operating system's randomness."""
        return cls(coincurve.PrivateKey())

    @classmethod
    def from_bytes(cls, secret: bytes) -> Self:
        """Take 32 bytes, a number between 1 and the group order - 1; ValueError otherwise."""
        if len(secret) != _SECRET_SIZE:
            raise ValueError("a private key has 32 bytes")
        return cls(coincurve.PrivateKey(secret))

    def to_bytes(self) -> bytes:
        """Return the 32 secret bytes."""
        return self._key.secret

    @property
    def public_key(self) -> bytes:
        """The 33 bytes of the compressed public key."""
        return self._key.public_key.format(compressed=True)

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign 32 bytes: DER, low S, deterministic (RFC 6979)."""
        return self._key.sign(digest, hasher=None)

    def sign_recoverable(self, digest: bytes) -> bytes:
        """Sign 32 bytes: r (32), s (32, low), recovery id (1)."""
        return self._key.sign_recoverable(digest, hasher=None)

    def add(self, scalar: bytes) -> "PrivateKey":
        """Return the key plus a 32-byte number, modulo the group order; ValueError at zero."""
        return PrivateKey(self._key.add(scalar))

    def shared_secret(self, public_key: bytes) -> bytes:
        """Return the compressed point of this key times the other's; ValueError if it is none."""
        return coincurve.PublicKey(public_key).multiply(self.to_bytes()).format(compressed=True)

    def __repr__(self) -> str:
        return f"PrivateKey(public_key={self.public_key.hex()})"


def uncompressed(public_key: bytes) -> bytes:
    """Return the 65-byte form of a public key; ValueError if it is not a point of the curve."""
    return coincurve.PublicKey(public_key).format(compressed=False)


def compressed(public_key: bytes) -> bytes:
    """Return the 33-byte form of a public key; ValueError if it is not a point of the curve."""
    return coincurve.PublicKey(public_key).format(compressed=True)


def verify_der(digest: bytes, signature: bytes, public_key: bytes) -> bool:
    """Say whether the signature over 32 bytes is by this key, its S low or high.

    Raises ValueError if it is not DER to the last byte, or the key is none.
    """
    normal = cdata_to_der(signature_normalize(der_to_cdata(signature))[1])
    return coincurve.PublicKey(public_key).verify(normal, digest, hasher=None)


def recover_public_key(digest: bytes, compact: bytes) -> bytes:
    """Return the compressed key that made r, s, recovery id (65 bytes); ValueError if none."""
    signature = coincurve.PublicKey.from_signature_and_message(compact, digest, hasher=None)
    return signature.format(compressed=True)


def add_to_public_key(public_key: bytes, scalar: bytes) -> bytes:
    """Return the compressed point plus scalar times the generator; ValueError at infinity."""
    return coincurve.PublicKey(public_key).add(scalar).format(compressed=True)
