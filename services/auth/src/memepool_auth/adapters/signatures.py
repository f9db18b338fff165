"""Checking a wallet's signature, away from the event loop."""

import asyncio

from memepool_auth.domain.errors import (
    AuthError,
    MalformedPublicKeyError,
    MalformedSignatureError,
    PublicKeyMismatchError,
    SegwitSignatureError,
    SignatureMismatchError,
)
from memepool_chain.keys import uncompressed
from memepool_chain.message import SignatureError, Signer, verify_bsm
from memepool_chain.network import network_named

ACCEPTED_SCHEMES = ("bsm",)
_REFUSALS: dict[str, type[AuthError]] = {
    "malformed_signature": MalformedSignatureError,
    "segwit_signature": SegwitSignatureError,
    "signature_mismatch": SignatureMismatchError,
}


def parse_public_key(public_key: str) -> bytes:
    """The 65 bytes of a public key given in hex, in either form; MalformedPublicKeyError."""
    try:
        return uncompressed(bytes.fromhex(public_key))
    except ValueError as error:
        raise MalformedPublicKeyError from error


async def verify(
    message: str, signature: str, wallet_address: str, network: str, public_key: bytes | None
) -> Signer:
    """Who signed, if the signature is by this wallet (and by this key, if one is given).

    Raises:
        MalformedSignatureError, SegwitSignatureError, SignatureMismatchError: it is not.
        PublicKeyMismatchError: another key of the caller's did.
    """
    try:
        # About 0.3 ms, most of it in libsecp256k1 without the interpreter's lock.
        signer = await asyncio.to_thread(
            verify_bsm, message, signature, wallet_address, network_named(network)
        )
    except SignatureError as error:
        raise _REFUSALS[error.code](_sentence(error.detail)) from error
    if public_key is not None and uncompressed(signer.public_key) != public_key:
        raise PublicKeyMismatchError
    return signer


def _sentence(detail: str) -> str:
    return f"{detail[:1].upper()}{detail[1:]}."
