"""Private keys at rest: AES-256-GCM, bound to the key's id."""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_SIZE = 12
_PURPOSE = b"memepool-auth signing key "


class SealError(RuntimeError):
    """The encryption key is not the one that sealed this, or somebody changed it."""


def seal(plain: bytes, encryption_key: bytes, kid: str) -> bytes:
    """Encrypt for storage: nonce, then ciphertext and tag."""
    nonce = os.urandom(_NONCE_SIZE)
    return nonce + AESGCM(encryption_key).encrypt(nonce, plain, _PURPOSE + kid.encode())


def unseal(sealed: bytes, encryption_key: bytes, kid: str) -> bytes:
    """Decrypt what `seal` made; SealError if it was not with this key and id."""
    nonce, box = sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:]
    try:
        return AESGCM(encryption_key).decrypt(nonce, box, _PURPOSE + kid.encode())
    except InvalidTag as error:
        msg = f"cannot unseal signing key {kid}: is keys.encryption_key the right one?"
        raise SealError(msg) from error
