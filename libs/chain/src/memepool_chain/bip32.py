"""BIP-32: one seed, a tree of keys; whoever has only the public half can still derive addresses."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from memepool_chain.base58 import Base58Error, decode_check, encode_check
from memepool_chain.hashing import hash160
from memepool_chain.keys import PrivateKey, add_to_public_key, uncompressed
from memepool_chain.network import Network

HARDENED: Final = 0x8000_0000
_INDEX_MAX = 0xFFFF_FFFF
_DEPTH_MAX = 255
_PAYLOAD_SIZE = 78
_LENGTH_MAX = 112
_SEED_SIZES = range(16, 65)
_NO_PARENT = bytes(4)


class Bip32Error(ValueError):
    """Not an extended key, or a derivation that BIP-32 does not allow."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the tree a key stands: what both halves of it share."""

    network: Network
    depth: int
    parent_fingerprint: bytes
    child_number: int
    chain_code: bytes

    def below(self, parent_public_key: bytes, index: int, chain_code: bytes) -> "_Place":
        return _Place(
            self.network, self.depth + 1, hash160(parent_public_key)[:4], index, chain_code
        )

    def encode(self, version: bytes, key: bytes) -> str:
        return encode_check(
            version
            + self.depth.to_bytes(1)
            + self.parent_fingerprint
            + self.child_number.to_bytes(4)
            + self.chain_code
            + key
        )

    def tweak(self, data: bytes, index: int) -> tuple[bytes, bytes]:
        """Return the number to add to the parent's key, and the child's chain code."""
        if self.depth == _DEPTH_MAX:
            raise Bip32Error("the tree has 255 levels")
        digest = hmac.digest(self.chain_code, data + index.to_bytes(4), "sha512")
        return digest[:32], digest[32:]


@dataclass(frozen=True, slots=True)
class ExtendedPublicKey:
    """An xpub: derives public keys, and nothing that spends."""

    place: _Place
    public_key: bytes

    @classmethod
    def parse(cls, text: str, network: Network) -> Self:
        """Read an xpub of this network; Bip32Error for anything else, an xprv included."""
        try:
            payload = decode_check(text, length_max=_LENGTH_MAX)
        except Base58Error as error:
            raise Bip32Error(f"the extended key {error}") from None
        if len(payload) != _PAYLOAD_SIZE or payload[:4] != network.xpub_version:
            raise Bip32Error(f"not an extended public key of the {network.name} network")
        place = _Place(
            network,
            depth=payload[4],
            parent_fingerprint=payload[5:9],
            child_number=int.from_bytes(payload[9:13]),
            chain_code=payload[13:45],
        )
        if place.depth == 0 and (place.parent_fingerprint != _NO_PARENT or place.child_number):
            raise Bip32Error("a key at depth 0 has no parent and no number")
        public_key = payload[45:]
        try:
            uncompressed(public_key)
        except ValueError:
            raise Bip32Error("the public key is not a point of the curve") from None
        return cls(place, public_key)

    def child(self, index: int) -> "ExtendedPublicKey":
        """Return the child at 0 to 2**31 - 1; hardened ones need the private key (Bip32Error)."""
        if not 0 <= index < HARDENED:
            raise Bip32Error("a public key has children 0 to 2**31 - 1")
        scalar, chain_code = self.place.tweak(self.public_key, index)
        try:
            public_key = add_to_public_key(self.public_key, scalar)
        except ValueError:  # one chance in 2**127: BIP-32 says to take the next index
            raise Bip32Error(f"there is no child {index}") from None
        return ExtendedPublicKey(self.place.below(self.public_key, index, chain_code), public_key)

    def derive(self, path: Sequence[int]) -> "ExtendedPublicKey":
        """Return the descendant at this path, e.g. (0, 5)."""
        key = self
        for index in path:
            key = key.child(index)
        return key

    def __str__(self) -> str:
        return self.place.encode(self.place.network.xpub_version, self.public_key)


@dataclass(frozen=True, slots=True)
class ExtendedPrivateKey:
    """An xprv: derives everything below it. Its str() is the secret, its repr is not."""

    place: _Place
    private_key: PrivateKey

    @classmethod
    def from_seed(cls, seed: bytes, network: Network) -> Self:
        """Make the master key of a seed of 16 to 64 bytes; Bip32Error."""
        if len(seed) not in _SEED_SIZES:
            raise Bip32Error("a seed has 16 to 64 bytes")
        digest = hmac.digest(b"Bitcoin seed", seed, "sha512")
        try:
            private_key = PrivateKey.from_bytes(digest[:32])
        except ValueError:  # one chance in 2**127
            raise Bip32Error("this seed makes no key") from None
        return cls(_Place(network, 0, _NO_PARENT, 0, digest[32:]), private_key)

    def child(self, index: int) -> "ExtendedPrivateKey":
        """Return the child at this index; from HARDENED on it cannot be found from the xpub."""
        if not 0 <= index <= _INDEX_MAX:
            raise Bip32Error("an index has 32 bits")
        public_key = self.private_key.public_key
        secret = b"\0" + self.private_key.to_bytes()
        scalar, chain_code = self.place.tweak(secret if index >= HARDENED else public_key, index)
        try:
            private_key = self.private_key.add(scalar)
        except ValueError:  # one chance in 2**127: BIP-32 says to take the next index
            raise Bip32Error(f"there is no child {index}") from None
        return ExtendedPrivateKey(self.place.below(public_key, index, chain_code), private_key)

    def derive(self, path: Sequence[int]) -> "ExtendedPrivateKey":
        """Return the descendant at this path, e.g. (44 + HARDENED, 236 + HARDENED, HARDENED)."""
        key = self
        for index in path:
            key = key.child(index)
        return key

    def neuter(self) -> ExtendedPublicKey:
        """Return the public half."""
        return ExtendedPublicKey(self.place, self.private_key.public_key)

    def __str__(self) -> str:
        secret = b"\0" + self.private_key.to_bytes()
        return self.place.encode(self.place.network.xprv_version, secret)
