"""Base58Check: the alphabet and checksum of addresses and extended keys."""

from memepool_chain.hashing import sha256d

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUE = {character: value for value, character in enumerate(_ALPHABET)}
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
    number = 0
    for character in text:
        value = _VALUE.get(character)
        if value is None:
            raise Base58Error("malformed", "contains a character outside the base58 alphabet")
        number = number * 58 + value
    zeros = len(text) - len(text.lstrip("1"))
    data = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8)
    payload, checksum = data[:-_CHECKSUM_SIZE], data[-_CHECKSUM_SIZE:]
    if len(data) < _CHECKSUM_SIZE or sha256d(payload)[:_CHECKSUM_SIZE] != checksum:
        raise Base58Error("bad_checksum", "the checksum does not match: a character is wrong")
    return payload
