"""A small pool of image processes: hard limits on time and memory, and no faith in them.

Processes are started when there is work, kept warm for a while, and replaced after some images.
One that is killed, hangs or answers nonsense costs the file that it worked on, nothing else.
"""

import asyncio
import contextlib
import json
import os
import signal
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from memepool_content.domain.errors import ImageRejectedError
from memepool_content.domain.image import Caps
from memepool_content.domain.meme import Variant
from memepool_content.imaging.result import Processed, Written
from memepool_content.settings import ProcessorSettings

ANSWER_BYTES_MAX = 64 * 1024
IMAGES_PER_PROCESS_MAX = 100
GRACE_S = 2.0
PDQ_FORMS, PDQ_BYTES = 8, 32
SERVED = frozenset({"image/jpeg", "image/png", "image/webp", "image/avif"})
_LENGTH = struct.Struct(">I")
_OVER_LIMIT = {-signal.SIGXCPU, -signal.SIGALRM, -signal.SIGXFSZ}
log = structlog.get_logger(__name__)


class ProcessorCrashedError(Exception):
    """An image process died and it is not known why: by its file, or by accident."""


def _too_costly() -> ImageRejectedError:
    detail = "The image takes too much time or memory to decode."
    return ImageRejectedError("too_costly", detail)


class ImageProcessor:
    """Runs the image pipeline in other processes, a few at a time."""

    def __init__(self, settings: ProcessorSettings, caps: Caps, quality_min: float) -> None:
        self._settings = settings
        self._caps = caps
        self._quality_min = quality_min
        self._slots = asyncio.Semaphore(settings.processes)
        self._idle: list[_Process] = []
        self._reaper: asyncio.TimerHandle | None = None

    async def process(self, source: Path, folder: Path) -> Processed:
        """Make the renditions of `source` in `folder`, an empty folder of its own.

        Raises:
            ImageRejectedError: the file is refused, or went over a limit (`too_costly`).
            ProcessorCrashedError: the process died of another cause.
            OSError: the disk is full or fails.
        """
        answer = await self._answer(
            {
                "source": str(source),
                "folder": str(folder),
                "caps": asdict(self._caps),
                "quality_min": self._quality_min,
            }
        )
        return _processed(answer, folder)

    async def alternatives(
        self, originals: Sequence[Variant], files: Sequence[Path], folder: Path
    ) -> Written:
        """Write renditions that `process` made in further formats, into an empty folder.

        Raises:
            ImageRejectedError: it takes too much (`too_costly`).
            ProcessorCrashedError: the process died of another cause.
            OSError: the disk is full or fails.
        """
        answer = await self._answer(
            {
                "originals": [asdict(original) for original in originals],
                "files": [str(path) for path in files],
                "folder": str(folder),
            }
        )
        return _written(answer, folder)

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        limits = {"cpu_s": self._settings.cpu_s, "wall_s": self._settings.wall_s}
        async with self._slots:
            process = self._idle.pop() if self._idle else await _Process.start(self._settings)
            try:
                answer = await process.ask({**request, **limits}, self._settings.wall_s + GRACE_S)
            except BaseException:
                process.kill()
                await process.wait()
                raise
            await self._keep(process, exhausted="exhausted" in answer)
        return answer

    @property
    def pids(self) -> list[int]:
        """The idle processes."""
        return [process.pid for process in self._idle]

    async def aclose(self) -> None:
        """End the processes."""
        if self._reaper is not None:
            self._reaper.cancel()
        idle, self._idle = self._idle, []
        for process in idle:
            process.kill()
            await process.wait()

    async def _keep(self, process: "_Process", *, exhausted: bool) -> None:
        process.images += 1
        if exhausted or process.images >= IMAGES_PER_PROCESS_MAX:
            process.kill()
            await process.wait()
            return
        self._idle.append(process)
        if self._reaper is not None:
            self._reaper.cancel()
        loop = asyncio.get_running_loop()
        self._reaper = loop.call_later(self._settings.idle_s, self._reap)

    def _reap(self) -> None:
        """Nobody has needed them for a while: give their memory back."""
        idle, self._idle = self._idle, []
        for process in idle:
            process.kill()


def _processed(answer: dict[str, Any], folder: Path) -> Processed:
    with _distrusting(answer):
        done = answer["processed"]
        written = _renditions(done["written"], folder)
        if {variant.name for variant in written.variants} != {"full", "preview", "thumb"}:
            raise ProcessorCrashedError("an answer that is not ours")
        pdq = tuple(str(form) for form in done["pdq"])
        if len(pdq) != PDQ_FORMS or any(len(bytes.fromhex(form)) != PDQ_BYTES for form in pdq):
            raise ProcessorCrashedError("an answer that is not ours")
        return Processed(
            frames=int(done["frames"]),
            quality=float(done["quality"]),
            pixel_sha256=str(done["pixel_sha256"]),
            pdq=pdq,
            pdq_quality=int(done["pdq_quality"]),
            written=written,
        )


def _written(answer: dict[str, Any], folder: Path) -> Written:
    with _distrusting(answer):
        return _renditions(answer["written"], folder)


@contextlib.contextmanager
def _distrusting(answer: dict[str, Any]) -> Iterator[None]:
    """Read an answer inside the block: the process has read hostile bytes and may lie."""
    if "exhausted" in answer:
        raise _too_costly()
    try:
        if "rejected" in answer:
            raise ImageRejectedError(
                str(answer["rejected"]["code"]), str(answer["rejected"]["detail"])
            )
        if "errno" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProcessorCrashedError("an answer that is not ours") from error


def _renditions(written: dict[str, Any], folder: Path) -> Written:
    variants = tuple(Variant(**variant) for variant in written["variants"])
    files = tuple(str(path) for path in written["files"])
    for variant, path in zip(variants, files, strict=True):
        if variant.mime_type not in SERVED or Path(path).parent != folder:
            raise ProcessorCrashedError("an answer that is not ours")
    return Written(variants, files)


class _Process:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.images = 0

    @classmethod
    async def start(cls, settings: ProcessorSettings) -> "_Process":
        """A new interpreter, never a fork of ours: ours has threads, secrets and connections."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "memepool_content.imaging.process",
            str(settings.memory_bytes_max),
            str(settings.file_bytes_max),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us: we finish what is in flight
            env={
                "PATH": os.environ.get("PATH", ""),
                "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
                "MALLOC_ARENA_MAX": "1",  # an arena reserves 64 MB of the limited space
                "OPENBLAS_NUM_THREADS": "1",  # a thread reserves as much
            },
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """One request and its answer; after any error the process is of no more use."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None  # noqa: S101, PT018 - both are pipes
        body = json.dumps(request).encode()
        try:
            async with asyncio.timeout(timeout_s):
                stdin.write(_LENGTH.pack(len(body)) + body)
                await stdin.drain()
                (size,) = _LENGTH.unpack(await stdout.readexactly(_LENGTH.size))
                if size > ANSWER_BYTES_MAX:
                    raise ProcessorCrashedError("an answer that is not ours")
                answer = json.loads(await stdout.readexactly(size))
        except TimeoutError as error:
            raise _too_costly() from error
        except (asyncio.IncompleteReadError, ConnectionError, ValueError) as error:
            status = await self._end()
            if status in _OVER_LIMIT:
                raise _too_costly() from error
            log.warning("image_process_died", status=status)
            raise ProcessorCrashedError(f"the image process ended with {status}") from error
        if not isinstance(answer, dict):
            raise ProcessorCrashedError("an answer that is not ours")
        return answer

    async def _end(self) -> int:
        """Why it ended. (Killing what is just dying would make asyncio lose the answer.)"""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                return await self.wait()
        self.kill()
        return await self.wait()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def wait(self) -> int:
        return await self._process.wait()
