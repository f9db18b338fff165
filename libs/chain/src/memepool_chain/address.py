"""P2PKH addresses and the locking scripts behind them."""

from memepool_chain.base58 import Base58Error, decode_check, encode_check
from memepool_chain.hashing import display_hex, hash160, sha256
from memepool_chain.network import Network

_PUBKEY_HASH_SIZE = 20
_LENGTH_MAX = 35
_SCRIPT_HEAD = bytes.fromhex("76a914")  # OP_DUP OP_HASH160, push 20
_SCRIPT_TAIL = bytes.fromhex("88ac")  # OP_EQUALVERIFY OP_CHECKSIG


class AddressError(ValueError):
    """Not an address that can be paid here: `code` is `malformed_address` or `wrong_network`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def encode_p2pkh(pubkey_hash: bytes, network: Network) -> str:
    """Write the address of a 20-byte public key hash; ValueError for another length."""
    _check_pubkey_hash(pubkey_hash)
    return encode_check(bytes([network.address_version]) + pubkey_hash)


def decode_p2pkh(address: str, network: Network) -> bytes:
    """Return the 20-byte public key hash of a P2PKH address of this network; AddressError."""
    try:
        payload = decode_check(address, length_max=_LENGTH_MAX)
    except Base58Error as error:
        raise AddressError("malformed_address", f"the address {error}") from None
    if len(payload) != 1 + _PUBKEY_HASH_SIZE:
        raise AddressError("malformed_address", "the address does not hold 20 bytes")
    if payload[0] != network.address_version:
        raise AddressError(
            "wrong_network", f"the address is not a P2PKH address of the {network.name} network"
        )
    return payload[1:]


def address_of(public_key: bytes, network: Network) -> str:
    """Return the address of a public key as it is serialized (33 or 65 bytes)."""
    return encode_p2pkh(hash160(public_key), network)


def p2pkh_script(pubkey_hash: bytes) -> bytes:
    """Return the 25-byte locking script of a public key hash; ValueError unless 20 bytes."""
    _check_pubkey_hash(pubkey_hash)
    return _SCRIPT_HEAD + pubkey_hash + _SCRIPT_TAIL


def script_hash(script: bytes) -> str:
    """Return the name of a script in ElectrumX and WhatsOnChain: reversed SHA-256 in hex."""
    return display_hex(sha256(script))


def _check_pubkey_hash(pubkey_hash: bytes) -> None:
    if len(pubkey_hash) != _PUBKEY_HASH_SIZE:
        raise ValueError("a public key hash has 20 bytes")
