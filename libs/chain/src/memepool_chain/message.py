"""Bitcoin Signed Message: how a wallet proves that it holds the key of an address.

The signature is base64 of 65 bytes: a header byte, r and s. The header names the recovery id and
claims a compressed (31 to 34) or an uncompressed key (27 to 30). Wallets get that claim wrong
(UniSat writes 27 to 30 with compressed keys), so both addresses of the recovered key count.
A signature can be changed without the key (high S is accepted, as every wallet's own check does):
what must not be used twice is the challenge, never the signature's bytes.
"""

import base64
import binascii
from dataclasses import dataclass

from memepool_chain.address import address_of, decode_p2pkh
from memepool_chain.hashing import hash160, sha256d
from memepool_chain.keys import PrivateKey, recover_public_key, uncompressed
from memepool_chain.network import Network
from memepool_chain.varint import encode_varint

_MAGIC = b"\x18Bitcoin Signed Message:\n"
_SIGNATURE_SIZE = 65
_HEADER_UNCOMPRESSED = 27
_HEADER_COMPRESSED = 31
_HEADER_SEGWIT = 35  # BIP-137: 35 to 42 are keys behind P2SH-P2WPKH and P2WPKH addresses
_HEADER_END = 43


class SignatureError(ValueError):
    """`code` is `malformed_signature`, `segwit_signature` or `signature_mismatch`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed: the compressed public key and the address of that form."""

    public_key: bytes
    address: str


def message_digest(message: str) -> bytes:
    """Return the 32 bytes that a wallet signs for this text."""
    # A lone surrogate has no UTF-8: it passes through, and no wallet can have signed it.
    data = message.encode("utf-8", errors="surrogatepass")
    return sha256d(_MAGIC + encode_varint(len(data)) + data)


def sign_bsm(message: str, key: PrivateKey, *, compressed: bool = True) -> str:
    """Sign as wallets do, for the address of the compressed or the uncompressed key."""
    signature = key.sign_recoverable(message_digest(message))
    header = signature[64] + (_HEADER_COMPRESSED if compressed else _HEADER_UNCOMPRESSED)
    return base64.b64encode(bytes([header]) + signature[:64]).decode("ascii")


def verify_bsm(message: str, signature: str, address: str, network: Network) -> Signer:
    """Return the signer if the signature is by the key of this P2PKH address, in either form.

    Raises SignatureError, and AddressError where the address itself is none of this network.
    """
    claimed_hash = decode_p2pkh(address, network)
    public_key = _recover(message_digest(message), _parse(signature))
    if claimed_hash == hash160(public_key):
        return Signer(public_key, address)  # base58 has one spelling for each hash
    return signer_of(public_key, claimed_hash, network)


def signer_of(public_key: bytes, claimed_hash: bytes, network: Network) -> Signer:
    """Return the signer if this key is behind the address with this hash, in either form.

    Raises SignatureError `signature_mismatch`.
    """
    if claimed_hash not in (hash160(public_key), hash160(uncompressed(public_key))):
        raise SignatureError(
            "signature_mismatch", "the signature is not by this address over this message"
        )
    return Signer(public_key, address_of(public_key, network))


def decode_signature(signature: str, *, size_max: int) -> bytes:
    """Return the bytes of a signature in base64, written in the one exact way.

    Raises SignatureError `malformed_signature`.
    """
    if len(signature) > (size_max + 2) // 3 * 4:
        raise SignatureError("malformed_signature", f"a signature has at most {size_max} bytes")
    try:
        data = binascii.a2b_base64(signature, strict_mode=True)
    except ValueError:
        raise SignatureError("malformed_signature", "the signature is not base64") from None
    if binascii.b2a_base64(data, newline=False).decode("ascii") != signature:
        raise SignatureError("malformed_signature", "the base64 has bits that mean nothing")
    return data


def _parse(signature: str) -> bytes:
    """Return r, s and recovery id (65 bytes)."""
    data = decode_signature(signature, size_max=_SIGNATURE_SIZE)
    if len(data) != _SIGNATURE_SIZE:
        raise SignatureError("malformed_signature", "a signature is base64 of 65 bytes")
    header = data[0]
    if _HEADER_SEGWIT <= header < _HEADER_END:
        raise SignatureError(
            "segwit_signature", "a segwit address cannot sign in: use a P2PKH address"
        )
    if not _HEADER_UNCOMPRESSED <= header < _HEADER_SEGWIT:
        raise SignatureError("malformed_signature", "the first byte must be 27 to 34")
    return data[1:] + bytes([(header - _HEADER_UNCOMPRESSED) & 3])


def _recover(digest: bytes, compact: bytes) -> bytes:
    try:
        return recover_public_key(digest, compact)
    except ValueError:
        raise SignatureError(
            "malformed_signature", "the signature belongs to no public key"
        ) from None
