"""Bitcoin's variable-length integer, and a reader of bytes that cannot run past their end."""


class EncodingError(ValueError):
    """The bytes end before what they announce, or write a length in more bytes than needed."""


def encode_varint(value: int) -> bytes:
    """Write 0 to 2**64 - 1 in 1, 3, 5 or 9 bytes."""
    if value < 0xFD:
        return value.to_bytes(1)
    if value <= 0xFFFF:
        return b"\xfd" + value.to_bytes(2, "little")
    if value <= 0xFFFF_FFFF:
        return b"\xfe" + value.to_bytes(4, "little")
    return b"\xff" + value.to_bytes(8, "little")


class Reader:
    """Reads little-endian fields; raises EncodingError instead of returning fewer bytes."""

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._offset

    def take(self, size: int) -> bytes:
        """Read exactly this many bytes."""
        if size > self.remaining:
            raise EncodingError(f"{size} bytes announced, {self.remaining} left")
        start = self._offset
        self._offset += size
        return self._data[start : self._offset]

    def uint(self, size: int) -> int:
        """Read an unsigned integer of this many bytes."""
        return int.from_bytes(self.take(size), "little")

    def varint(self) -> int:
        """Read a variable-length integer; nodes refuse all but the shortest form, and so do we."""
        first = self.uint(1)
        if first < 0xFD:
            return first
        size = 1 << (first - 0xFC)
        value = self.uint(size)
        if len(encode_varint(value)) != 1 + size:
            raise EncodingError(f"{value} written in {1 + size} bytes")
        return value

    def count(self, item_size_min: int) -> int:
        """Read a number of items, each at least so many bytes: more than can follow is refused."""
        count = self.varint()
        if count * item_size_min > self.remaining:
            raise EncodingError(f"{count} items announced, {self.remaining} bytes left")
        return count
