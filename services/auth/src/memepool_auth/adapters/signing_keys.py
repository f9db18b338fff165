"""P-256 keys that sign tokens, and their public form (RFC 7517)."""

import hashlib
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from jwt.algorithms import ECAlgorithm

_THUMBPRINT_MEMBERS = ("crv", "kty", "x", "y")


def generate() -> tuple[str, EllipticCurvePrivateKey, dict[str, Any]]:
    """A new key: its id, itself, its public JWK. The id is the JWK's thumbprint (RFC 7638)."""
    key = generate_private_key(SECP256R1())
    jwk: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(key.public_key()))
    members = {name: jwk[name] for name in _THUMBPRINT_MEMBERS}
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":"))
    kid = hashlib.sha256(canonical.encode()).hexdigest()[:32]
    return kid, key, {**members, "kid": kid, "alg": "ES256", "use": "sig"}


def to_bytes(key: EllipticCurvePrivateKey) -> bytes:
    """The private key as PKCS #8, to be sealed."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def from_bytes(data: bytes) -> EllipticCurvePrivateKey:
    """The private key from PKCS #8."""
    key = load_der_private_key(data, password=None)
    if not isinstance(key, EllipticCurvePrivateKey):
        msg = "not an elliptic-curve key"
        raise TypeError(msg)
    return key
