"""Which of several formats a client gets (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence
from functools import lru_cache

from memepool_content.domain.meme import Variant

HEADER_LENGTH_MAX = 1_000
_EVERYWHERE = frozenset({"image/jpeg", "image/png"})
"""What every client shows. `image/*` was sent before the others existed, and never meant them."""


def chosen(header: str | None, offers: Sequence[Variant]) -> Variant:
    """The format that the client likes best, of those the smallest one.

    The first of `offers` is what was made first. JPEG or PNG beside it is for clients that do not
    take it. A client that takes nothing of all this gets the first all the same: a picture says
    more than a 406.
    """
    first = offers[0]
    if header is None or len(header) > HEADER_LENGTH_MAX:
        return first
    wishes = _wishes(header)

    def rank(offer: Variant) -> tuple[float, bool, int]:
        stopgap = offer is not first and offer.mime_type in _EVERYWHERE
        return _quality(wishes, offer.mime_type, first.mime_type), not stopgap, -offer.size_bytes

    best = max(offers, key=rank)
    return best if rank(best)[0] > 0 else first


def _quality(wishes: dict[str, float], mime_type: str, first: str) -> float:
    if mime_type in wishes:
        return wishes[mime_type]
    if mime_type in _EVERYWHERE or mime_type == first:
        return wishes.get("image/*", wishes.get("*/*", 0.0))
    return 0.0


@lru_cache(maxsize=1_000)
def _wishes(header: str) -> dict[str, float]:
    """Media ranges with their quality; what cannot be read is left out."""
    wishes = {}
    for part in header.lower().split(","):
        media_range, *parameters = (piece.strip() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                quality = _number(value.strip())
        wishes[media_range] = quality
    return wishes


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if 0 <= number <= 1 else 0.0
