"""Block headers: eighty bytes, their hash, and the work they prove."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Self

from memepool_chain.hashing import display_hex, internal_bytes, sha256d

HEADER_SIZE = 80
_UINT32_MAX = 0xFFFF_FFFF
_SIGN_BIT = 0x0080_0000
_TARGET_BITS = 256


class HeaderError(ValueError):
    """A header that is not acceptable, with a stable `code` and a `detail` for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True)
class Header:
    """A block header. `version` is signed; `time` counts seconds since 1970 UTC."""

    version: int
    prev_hash: str
    merkle_root: str
    time: int
    bits: int
    nonce: int

    @classmethod
    def checked(
        cls, *, version: int, prev_hash: str, merkle_root: str, time: int, bits: int, nonce: int
    ) -> Self:
        """Build one from numbers that somebody else sent; HeaderError `malformed_header`."""
        header = cls(version, prev_hash, merkle_root, time, bits, nonce)
        try:
            header.serialize()
        except (OverflowError, ValueError) as error:
            raise HeaderError("malformed_header", f"not a header: {error}") from None
        return header

    def serialize(self) -> bytes:
        """Return the 80 bytes."""
        return (
            self.version.to_bytes(4, "little", signed=True)
            + internal_bytes(self.prev_hash)
            + internal_bytes(self.merkle_root)
            + self.time.to_bytes(4, "little")
            + self.bits.to_bytes(4, "little")
            + self.nonce.to_bytes(4, "little")
        )

    @cached_property
    def hash(self) -> str:
        """The block hash, hex in display order."""
        return display_hex(sha256d(self.serialize()))


def parse_header(raw: bytes) -> Header:
    """Read exactly 80 bytes; HeaderError `malformed_header`."""
    if len(raw) != HEADER_SIZE:
        raise HeaderError("malformed_header", f"a header has 80 bytes, not {len(raw)}")
    return Header(
        version=int.from_bytes(raw[0:4], "little", signed=True),
        prev_hash=display_hex(raw[4:36]),
        merkle_root=display_hex(raw[36:68]),
        time=int.from_bytes(raw[68:72], "little"),
        bits=int.from_bytes(raw[72:76], "little"),
        nonce=int.from_bytes(raw[76:80], "little"),
    )


def target_of(bits: int) -> int:
    """Return the target that the compact form stands for; HeaderError `bad_bits` if none."""
    if not 0 <= bits <= _UINT32_MAX:
        raise HeaderError("bad_bits", "bits is an unsigned 32-bit number")
    exponent, mantissa = bits >> 24, bits & 0x007F_FFFF
    shift = 8 * (exponent - 3)
    target = mantissa << shift if shift >= 0 else mantissa >> -shift
    if bits & _SIGN_BIT or not 0 < target < 1 << _TARGET_BITS:
        raise HeaderError("bad_bits", f"bits {bits:#010x} stands for no target")
    return target


def bits_of(target: int) -> int:
    """Return the compact form of a target, rounded down to its 23 leading bits."""
    size = (target.bit_length() + 7) // 8
    shift = 8 * (size - 3)
    mantissa = target >> shift if shift >= 0 else target << -shift
    if mantissa & _SIGN_BIT:  # would read as negative: one more byte, one digit less
        mantissa >>= 8
        size += 1
    return size << 24 | mantissa


@lru_cache(maxsize=4_096)  # the 144-block rule asks again for each block of its window
def work_of(bits: int) -> int:
    """Return the expected number of hashes to meet this target; HeaderError `bad_bits`."""
    return (1 << _TARGET_BITS) // (target_of(bits) + 1)


def meets_target(header: Header) -> bool:
    """Say whether the hash proves the work its own bits claim; HeaderError `bad_bits`."""
    return int(header.hash, 16) <= target_of(header.bits)
