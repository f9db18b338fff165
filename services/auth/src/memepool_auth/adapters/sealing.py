"""Secrets at rest: AES-256-GCM, bound to what they belong to."""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_SIZE = 12
_OWNER = b"memepool-auth "


class SealError(RuntimeError):
    """The encryption key is not the one that sealed this, or somebody changed it."""


def seal(plain: bytes, encryption_key: bytes, bound_to: str) -> bytes:
    """Encrypt for storage: nonce, then ciphertext and tag."""
    nonce = os.urandom(_NONCE_SIZE)
    return nonce + AESGCM(encryption_key).encrypt(nonce, plain, _OWNER + bound_to.encode())


def unseal(sealed: bytes, encryption_key: bytes, bound_to: str) -> bytes:
    """Decrypt what `seal` made; SealError if it was not with this key, for this thing."""
    nonce, box = sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:]
    try:
        return AESGCM(encryption_key).decrypt(nonce, box, _OWNER + bound_to.encode())
    except InvalidTag as error:
        msg = f"cannot unseal {bound_to}: is the encryption key the right one?"
        raise SealError(msg) from error
