"""Checking a wallet's signature, by scheme."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from memepool_auth.domain.challenge import BRC100_PROTOCOL, BRC100_SECURITY_LEVEL
from memepool_auth.domain.errors import (
    AuthError,
    MalformedPublicKeyError,
    MalformedSignatureError,
    PublicKeyMismatchError,
    PublicKeyRequiredError,
    SchemeNotAcceptedError,
    SegwitSignatureError,
    SignatureMismatchError,
)
from memepool_chain import brc77
from memepool_chain.brc77 import verify_brc77
from memepool_chain.brc100 import Purpose, verify_brc100
from memepool_chain.keys import uncompressed
from memepool_chain.message import SignatureError, Signer, decode_signature, verify_bsm
from memepool_chain.network import Network, network_named

DER_SIZE_MAX = 72
_PUBLIC_KEY = re.compile("0[23][0-9a-fA-F]{64}|04[0-9a-fA-F]{128}")  # SEC 1, no hybrid form
_REFUSALS: dict[str, type[AuthError]] = {
    "malformed_signature": MalformedSignatureError,
    "segwit_signature": SegwitSignatureError,
    "signature_mismatch": SignatureMismatchError,
}


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature in base64, over our message, in the name of a wallet."""

    scheme: str
    message: str
    nonce: str
    signature: str
    wallet_address: str


def parse_public_key(public_key: str) -> bytes:
    """The 65 bytes of a public key given in hex, in either form; MalformedPublicKeyError."""
    if not _PUBLIC_KEY.fullmatch(public_key):  # `fromhex` takes spaces, libsecp256k1 hybrids
        raise MalformedPublicKeyError
    try:
        return uncompressed(bytes.fromhex(public_key))
    except ValueError as error:
        raise MalformedPublicKeyError from error


def require_accepted(scheme: str, *, has_public_key: bool) -> None:
    """Raise SchemeNotAcceptedError, naming what is accepted, or PublicKeyRequiredError."""
    if scheme not in ACCEPTED_SCHEMES:
        raise SchemeNotAcceptedError(scheme[:32], ACCEPTED_SCHEMES)
    if scheme == "brc100" and not has_public_key:
        raise PublicKeyRequiredError


def verify(signed: Signed, network: str, public_key: bytes | None) -> Signer:
    """Who signed, if the signature is by this wallet (and by this key, if one is given).

    It takes 0.1 to 0.3 ms: handing it to a thread would cost as much again.

    Raises:
        MalformedSignatureError, SegwitSignatureError, SignatureMismatchError: it is not.
        PublicKeyMismatchError: another key of the caller's did.
    """
    try:
        signer = _SCHEMES[signed.scheme](signed, network_named(network), public_key)
    except SignatureError as error:
        raise _REFUSALS[error.code](_sentence(error.detail)) from error
    if public_key is not None and uncompressed(signer.public_key) != public_key:
        raise PublicKeyMismatchError
    return signer


def _bsm(signed: Signed, network: Network, _public_key: bytes | None) -> Signer:
    return verify_bsm(signed.message, signed.signature, signed.wallet_address, network)


def _brc100(signed: Signed, network: Network, public_key: bytes | None) -> Signer:
    if public_key is None:
        raise PublicKeyRequiredError
    signature = decode_signature(signed.signature, size_max=DER_SIZE_MAX)
    purpose = Purpose(BRC100_SECURITY_LEVEL, BRC100_PROTOCOL, signed.nonce)
    address = signed.wallet_address
    return verify_brc100(signed.message, signature, purpose, public_key, address, network)


def _brc77(signed: Signed, network: Network, _public_key: bytes | None) -> Signer:
    message = decode_signature(signed.signature, size_max=brc77.SIZE_MAX)
    return verify_brc77(signed.message, message, signed.wallet_address, network)


_SCHEMES: dict[str, Callable[[Signed, Network, bytes | None], Signer]] = {
    "bsm": _bsm,
    "brc100": _brc100,
    "brc77": _brc77,
}
ACCEPTED_SCHEMES = tuple(_SCHEMES)


def _sentence(detail: str) -> str:
    return f"{detail[:1].upper()}{detail[1:]}."
