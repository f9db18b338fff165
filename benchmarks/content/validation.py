"""What checking an upload costs, beside the least that could be done; and the memory it takes.

    python -m benchmarks.content.validation all

Reference, in the same run: Pillow decodes the same 1080-pixel JPEG, makes the 320-pixel WebP of it
and encodes it anew as JPEG, with the same settings. CPU time, in turns. Then a fresh image process
takes each of the largest files within our caps, and the most memory that it ever had is read.
"""

import io
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.content.near_duplicates import captioned, template
from memepool_content.domain.errors import ImageRejectedError
from memepool_content.domain.image import Caps
from memepool_content.imaging.pipeline import JPEG_QUALITY, THUMB_PX_MAX, THUMB_QUALITY, process
from memepool_content.settings import ProcessorSettings

RATIO_MAX, MEMORY_MB_MAX = 2.5, 300
TURNS, PICTURES, SEED = 9, 4, 500_000


def picture(seed: int, size: tuple[int, int] = (1080, 1080)) -> Image.Image:
    """A meme with the noise of a photograph."""
    rng = random.Random(seed)
    image = captioned(template(rng), rng).resize(size)
    return Image.blend(image, Image.effect_noise(size, 18).convert("RGB"), 0.12)


def bare(source: Path, _folder: Path) -> None:
    """Decode, thumbnail, re-encode."""
    with Image.open(source) as image:
        image.load()
        image.save(io.BytesIO(), "JPEG", quality=JPEG_QUALITY)
        image.thumbnail((THUMB_PX_MAX, THUMB_PX_MAX), Image.Resampling.LANCZOS)
        image.save(io.BytesIO(), "WEBP", quality=THUMB_QUALITY, method=2)


def whole(source: Path, folder: Path) -> None:
    """All that a meme passes."""
    process(source, folder, Caps(), 0.0)


def cpu_ms(act: Callable[[Path, Path], None], sources: list[Path], folder: Path) -> float:
    """CPU time for one picture."""
    started_s = time.process_time()
    for source in sources:
        act(source, folder)
    return (time.process_time() - started_s) / len(sources) * 1e3


def worst_files() -> dict[str, Callable[[Path], None]]:
    """The files within our caps that take the most memory."""
    large = (4096, 4096)

    def still(
        kind: str, mode: str = "RGB", size: tuple[int, int] = large
    ) -> Callable[[Path], None]:
        return lambda path: picture(SEED, size).convert(mode).save(path, kind)

    def noise(kind: str, **options: Any) -> Callable[[Path], None]:
        """What compresses worst."""

        def save(path: Path) -> None:
            image = Image.effect_noise((4096, 3072), 60).convert("RGBA")
            image.putalpha(Image.effect_noise((4096, 3072), 20))
            image.save(path, kind, **options)

        return save

    def moving(kind: str) -> Callable[[Path], None]:
        def save(path: Path) -> None:
            frames = [picture(SEED + number, (1000, 1000)) for number in range(60)]
            frames[0].save(path, kind, save_all=True, append_images=frames[1:], duration=50)

        return save

    return {
        "JPEG of 16 megapixels": still("JPEG"),
        "JPEG in CMYK": still("JPEG", "CMYK"),
        "PNG with transparency": still("PNG", "RGBA"),
        "PNG of 16 bits": still("PNG", "I;16"),
        "WebP of 12 megapixels": still("WEBP", size=(4096, 3072)),
        "WebP with transparency": still("WEBP", "RGBA", (4096, 3072)),
        "WebP of noise": noise("WEBP", quality=60, method=0),
        "AVIF of 12 megapixels": still("AVIF", size=(4096, 3072)),
        "AVIF of noise": noise("AVIF", quality=30, speed=10, subsampling="4:4:4"),
        "GIF of 60 megapixels": moving("GIF"),
        "WebP of 60 megapixels": moving("WEBP"),
        "PNG of 60 megapixels": moving("PNG"),
    }


def apart(*arguments: str) -> list[str]:
    """The words that this module prints in a process of its own, set up like an image process."""
    command = [sys.executable, "-m", "benchmarks.content.validation", *arguments]
    settings = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    return subprocess.run(  # noqa: S603 - this module
        command, check=True, capture_output=True, text=True, env=settings
    ).stdout.split()


def take(source: Path) -> None:
    """Take a file; print the most memory that the process ever had, and what became of it."""
    memory_bytes_max = ProcessorSettings().memory_bytes_max
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes_max, memory_bytes_max))
    with tempfile.TemporaryDirectory() as name:
        try:
            process(source, Path(name), Caps(), 0.0)
            outcome = "taken"
        except ImageRejectedError as error:
            outcome = error.code
        except MemoryError:
            outcome = "too_costly"
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    print(int(found[1]) // 1024, outcome)


def compare() -> None:
    """Print the CPU time of the whole validation and of the bare work, in milliseconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = [folder / f"{number}.jpg" for number in range(PICTURES)]
        for number, source in enumerate(sources):
            picture(SEED + number).save(source, "JPEG", quality=92)
        taken: dict[str, list[float]] = {"whole": [], "bare": []}
        for _ in range(TURNS):
            taken["bare"].append(cpu_ms(bare, sources, folder))
            taken["whole"].append(cpu_ms(whole, sources, folder))
        print(*(statistics.median(times) for times in taken.values()))


def main() -> bool:
    """Print both tables; whether both goals are met."""
    ours, reference = (float(word) for word in apart())
    print(
        f"1080-pixel JPEG: whole validation {ours:.1f} ms, Pillow's bare work {reference:.1f} ms,"
        f" ratio {ours / reference:.2f}, at most {RATIO_MAX}"
    )
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        source = Path(name, "large")
        for title, make in worst_files().items():
            make(source)
            peak, outcome = apart(str(source))
            peaks.append(int(peak))
            print(f"{title:26}{peak:>6} MB  {outcome}")
    print(f"worst {max(peaks)} MB, at most {MEMORY_MB_MAX}")
    return ours / reference <= RATIO_MAX and max(peaks) < MEMORY_MB_MAX


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["all"]:
            sys.exit(0 if main() else 1)
        case [source]:
            take(Path(source))
        case _:
            compare()
