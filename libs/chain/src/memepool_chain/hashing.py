"""The hashes of Bitcoin, and hashes written as text.

Block hashes and transaction ids travel as lowercase hex in display order, the reverse of the bytes
that are hashed and serialized.
"""

import hashlib
import re

from Cryptodome.Hash import RIPEMD160

_HASH_HEX = re.compile(r"[0-9a-f]{64}")
# Ten times faster than the other, but OpenSSL 3 need not offer it. Looking it up by name costs as
# much as hashing 33 bytes, so one is kept and copied.
_RIPEMD160 = (
    hashlib.new("ripemd160") if "ripemd160" in hashlib.algorithms_available else RIPEMD160.new()
)


def sha256(data: bytes) -> bytes:
    """Return the 32 bytes of SHA-256."""
    return hashlib.sha256(data).digest()


def sha256d(data: bytes) -> bytes:
    """Return the 32 bytes of SHA-256 applied twice."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def hash160(data: bytes) -> bytes:
    """Return the 20 bytes of RIPEMD-160 over SHA-256."""
    ripemd160 = _RIPEMD160.copy()
    ripemd160.update(hashlib.sha256(data).digest())
    return ripemd160.digest()


def display_hex(hash_bytes: bytes) -> str:
    """Write 32 bytes in display order."""
    return hash_bytes[::-1].hex()


def internal_bytes(hash_hex: str) -> bytes:
    """Read a hash in display order back into its 32 bytes; ValueError unless 64 lowercase hex."""
    if not is_hash_hex(hash_hex):
        raise ValueError("a hash is 64 lowercase hexadecimal digits")
    return bytes.fromhex(hash_hex)[::-1]


def is_hash_hex(value: object) -> bool:
    """Say whether this is a hash in display order: exactly 64 lowercase hexadecimal digits."""
    return isinstance(value, str) and _HASH_HEX.fullmatch(value) is not None
