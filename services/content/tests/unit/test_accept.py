"""Which format a client gets."""

import pytest

from memepool_content.api.accept import chosen
from memepool_content.domain.meme import Variant


def offer(kind: str, size_bytes: int) -> Variant:
    return Variant("full", f"image/{kind}", 100, 100, size_bytes, kind)


PHOTO = (offer("jpeg", 100), offer("webp", 50), offer("avif", 40))
PAINTED = (offer("png", 100), offer("webp", 120), offer("avif", 90))
OURS = (offer("webp", 50), offer("jpeg", 100), offer("avif", 60))
ANIMATED = (offer("webp", 500), offer("png", 50))
CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
FIREFOX = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"
OLD = "image/png,image/*;q=0.8,*/*;q=0.5"


@pytest.mark.parametrize(
    ("header", "offers", "kind"),
    [
        (None, PHOTO, "jpeg"),
        ("", PHOTO, "jpeg"),
        ("*/*", PHOTO, "jpeg"),
        ("*/*", OURS, "webp"),
        (CHROME, PHOTO, "avif"),
        (FIREFOX, PHOTO, "avif"),
        (OLD, PHOTO, "jpeg"),
        ("text/html,image/webp,*/*;q=0.8", PHOTO, "webp"),
        ("IMAGE/WEBP", PHOTO, "webp"),
        (CHROME, PAINTED, "avif"),
        ("image/webp", PAINTED, "webp"),
        (CHROME, OURS, "webp"),
        ("image/jpeg", OURS, "jpeg"),
        ("image/png", OURS, "webp"),
        (CHROME, ANIMATED, "webp"),
        (FIREFOX, ANIMATED, "webp"),
        ("image/png", ANIMATED, "png"),
        ("image/jpeg, image/webp;q=0.5", PHOTO, "jpeg"),
        ("image/webp;q=0, image/avif;q=0, */*", PHOTO, "jpeg"),
        ("image/avif;q=0.5, image/webp;q=0.7", PHOTO, "webp"),
        ("image/avif;q=zwei, image/webp;q=2", PHOTO, "jpeg"),
        ("text/html", PHOTO, "jpeg"),
        (";;,,q=", PHOTO, "jpeg"),
        ("image/avif," * 200, PHOTO, "jpeg"),
    ],
)
def test_the_best_that_is_accepted(
    header: str | None, offers: tuple[Variant, ...], kind: str
) -> None:
    assert chosen(header, offers).sha256 == kind
