"""Base58Check: the alphabet and checksum of addresses and extended keys."""

from memepool_chain.hashing import sha256d

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_NO_DIGIT = 58
_DIGITS = bytes(
    _ALPHABET.index(chr(byte)) if chr(byte) in _ALPHABET else _NO_DIGIT for byte in range(256)
)
_CHECKSUM_SIZE = 4


class Base58Error(ValueError):
    """Not Base58Check: `code` is malformed or bad_checksum."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def encode_check(payload: bytes) -> str:
    """Append the checksum and write the whole in base 58, a leading zero byte as "1"."""
    data = payload + sha256d(payload)[:_CHECKSUM_SIZE]
    number = int.from_bytes(data)
    digits = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_ALPHABET[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(digits))


def decode_check(text: str, *, length_max: int) -> bytes:
    """Return the payload without its checksum; Base58Error for anything that is not exact.

    `length_max` counts characters: decoding costs their square.
    """
    if not 0 < len(text) <= length_max:
        raise Base58Error("malformed", f"expected 1 to {length_max} characters")
    digits = text.encode("ascii", errors="replace").translate(_DIGITS)  # "?" is no digit either
    if _NO_DIGIT in digits:
        raise Base58Error("malformed", "contains a character outside the base58 alphabet")
    number = 0
    for digit in digits:
        number = number * 58 + digit
    zeros = len(text) - len(text.lstrip("1"))
    data = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8)
    payload, checksum = data[:-_CHECKSUM_SIZE], data[-_CHECKSUM_SIZE:]
    if len(data) < _CHECKSUM_SIZE or sha256d(payload)[:_CHECKSUM_SIZE] != checksum:
        raise Base58Error("bad_checksum", "the checksum does not match: a character is wrong")
    return payload
