"""How far apart are copies, and how far are memes of one template? In bits of PDQ.

    python -m benchmarks.content.near_duplicates tune      (the set that the rule was chosen on)
    python -m benchmarks.content.near_duplicates report    (another set: the numbers in the ADR)

Pictures are made from seeds, and the two sets share none.
"""

import io
import random
import sys
from collections import Counter
from collections.abc import Iterator

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

from memepool_content.domain.originality import DISTANCE_MAX, PDQ_QUALITY_MIN
from memepool_content.imaging.measure import grey_of
from memepool_content.imaging.pdq import pdq
from memepool_sandbox.players import memes as players

SEEDS = {"tune": 1_000, "report": 2_000_000}
TEMPLATES, CAPTIONS = 60, 3
WORDS = ("when the block", "nobody", "expects my wallet", "ten seconds", "cat", "mempool again")


def template(rng: random.Random) -> Image.Image:
    """A picture with soft and hard parts, of a size that memes have."""
    width, height = rng.choice(((640, 480), (720, 720), (600, 800), (1080, 1080), (1200, 675)))
    small = Image.effect_noise((rng.randint(4, 9), rng.randint(4, 9)), rng.randint(60, 120))
    small.putdata([rng.randrange(256) for _ in range(small.width * small.height)])
    image = small.resize((width, height), Image.Resampling.BICUBIC).convert("RGB")
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(3, 14)):
        x, y = rng.randrange(width), rng.randrange(height)
        a, b = rng.randint(20, width // 4), rng.randint(20, height // 4)
        shape = rng.choice((draw.ellipse, draw.rectangle))
        shape((x - a, y - b, x + a, y + b), fill=tuple(rng.randrange(256) for _ in range(3)))
    return image.filter(ImageFilter.GaussianBlur(rng.choice((0, 0, 1, 2))))


def captioned(image: Image.Image, rng: random.Random) -> Image.Image:
    """The picture with words over its top and its foot."""
    image = image.copy()
    size = image.height // rng.choice((8, 10, 12))
    font, draw = ImageFont.load_default(size), ImageDraw.Draw(image)
    for y in (size // 3, image.height - 2 * size):
        text = " ".join(rng.sample(WORDS, rng.randint(1, 3)))
        x = max(5, (image.width - int(draw.textlength(text, font))) // 2)
        draw.text((x, y), text, "white", font, stroke_width=max(2, size // 14), stroke_fill="black")
    return image


def copies(image: Image.Image, rng: random.Random) -> Iterator[tuple[str, Image.Image]]:
    """What people do to a picture on its way around the net."""
    for kind, quality in (("JPEG", 30), ("JPEG", 60), ("JPEG", 85), ("WEBP", 50)):
        buffer = io.BytesIO()
        image.save(buffer, kind, quality=quality)
        yield f"{kind} at {quality}", Image.open(buffer).convert("RGB")
    half = (image.width // 2, image.height // 2)
    yield "half the size", image.resize(half)
    yield "twice there and back", image.resize(half).resize(image.size)
    yield "brighter", ImageEnhance.Brightness(image).enhance(rng.choice((0.85, 1.15)))
    yield "more contrast", ImageEnhance.Contrast(image).enhance(1.2)
    yield "blurred", image.filter(ImageFilter.GaussianBlur(1))
    yield "grey", image.convert("L").convert("RGB")
    yield "mirrored", image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    yield (
        "turned",
        image.transpose(rng.choice((Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270))),
    )
    edge = max(2, image.width // 100)
    yield "1 % cut off", image.crop((edge, edge, image.width - edge, image.height - edge))


def distance(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """From the first form of one to the closest of the other."""
    return min((int(one[0], 16) ^ int(form, 16)).bit_count() for form in other)


def main(seed: int) -> None:
    """Print the distances."""
    alike: dict[str, list[int]] = {}
    captions: list[int] = []
    strangers: list[int] = []
    unclear, last = 0, None
    for number in range(TEMPLATES):
        rng = random.Random(seed + number)
        picture = template(rng)
        versions = [captioned(picture, rng) for _ in range(CAPTIONS)]
        hashed = [pdq(grey_of(version)) for version in versions]
        unclear += hashed[0][1] < PDQ_QUALITY_MIN
        captions += [distance(hashed[0][0], other[0]) for other in hashed[1:]]
        for name, copy in copies(versions[0], rng):
            alike.setdefault(name, []).append(distance(hashed[0][0], pdq(grey_of(copy))[0]))
        if last is not None:
            strangers.append(distance(last, hashed[0][0]))
        last = hashed[0][0]
    rng = random.Random(seed)
    made = [players.draw(players.caption(rng), rng) for _ in range(60)]
    drawn = [pdq(grey_of(Image.open(io.BytesIO(data)).convert("RGB")))[0] for data in made]
    crowd = [distance(a, b) for i, a in enumerate(drawn) for b in drawn[:i]]
    print(f"{TEMPLATES} templates, {unclear} of them below PDQ quality {PDQ_QUALITY_MIN}")
    for name, found in alike.items():
        show(f"copy: {name}", found)
    show("all copies", [bits for found in alike.values() for bits in found])
    show("same template, other caption", captions)
    show("other templates", strangers)
    show("the sandbox players' memes", crowd)


def show(name: str, found: list[int]) -> None:
    """One line: quantiles, and how many the rule calls a copy."""
    ordered = sorted(found)
    at = [ordered[min(len(ordered) - 1, int(len(ordered) * q))] for q in (0, 0.01, 0.5, 0.99, 1)]
    called = sum(bits <= DISTANCE_MAX for bits in found)
    low = dict(sorted(Counter(min(bits, 32) // 2 * 2 for bits in found).items()))
    print(
        f"{name:30} min {at[0]:3} 1% {at[1]:3} median {at[2]:3} 99% {at[3]:3} max {at[4]:3}"
        f"  called a copy {called}/{len(found)}  {low}"
    )


if __name__ == "__main__":
    main(SEEDS[sys.argv[1]])
