"""Jobs: a file each, so that they outlive the process, and the pictures they end in."""

import asyncio
import json
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from memepool_sandbox.aitubo.images import (
    SIDE_PIXELS_MAX,
    SIDE_PIXELS_MIN,
    SourceImageError,
    painted,
    restyled,
)
from memepool_sandbox.faults import Mode

JOBS_MAX = 1_000
IMAGES_PER_JOB_MAX = 4
SOURCE_BYTES_MAX = 20 * 1024 * 1024
SOURCE_TIMEOUT_S = 10.0
PROMPT_LENGTH_MAX = 2_000
_JOB_ID = re.compile(r"[0-9a-f]{24}")

Side = Annotated[int, Field(ge=SIDE_PIXELS_MIN, le=SIDE_PIXELS_MAX)]


class JobRequest(BaseModel):
    """The fields of `POST /api/job/create` that this simulation heeds; it ignores the others."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    prompt: Annotated[str, Field(min_length=1, max_length=PROMPT_LENGTH_MAX)]
    width: Side = 512
    height: Side = 512
    count: Annotated[int, Field(ge=1, le=IMAGES_PER_JOB_MAX)] = 1
    seed: int = 0
    image_path: Annotated[str | None, Field(alias="imagePath", max_length=2_000)] = None
    strength: Annotated[float, Field(gt=0, le=1)] = 0.6


class Job(BaseModel):
    """A job as it is kept. `created_s` counts seconds since 1970; `fault` was ordered for it."""

    id: str
    request: JobRequest
    created_s: float
    fault: Mode | None = None
    failure: str | None = None
    images: int | None = None  # how many pictures are ready; None while there is no result


class Jobs:
    """The jobs of one folder. `source` fetches the images that jobs start from."""

    def __init__(self, folder: Path, source: httpx.AsyncClient, now_s: Callable[[], float]) -> None:
        self._folder = folder
        self._source = source
        self._now_s = now_s
        self._tasks: dict[str, asyncio.Task[None]] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, request: JobRequest, fault: Mode | None) -> Job:
        """Take a job and start working on it; the oldest ones beyond a thousand are forgotten."""
        job = Job(id=secrets.token_hex(12), request=request, created_s=self._now_s(), fault=fault)
        self._save(job)
        self._forget_old()
        self._start(job)
        return job

    def get(self, job_id: str) -> Job | None:
        """The job as it stands; one that a dead process left unfinished is started again."""
        if not _JOB_ID.fullmatch(job_id):
            return None
        try:
            job = Job.model_validate_json(self._path(job_id).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        if job.images is None and job.failure is None:
            self._start(job)
        return job

    def age_s(self, job: Job) -> float:
        """How long ago the job was created."""
        return self._now_s() - job.created_s

    def picture(self, job_id: str, index: int) -> bytes | None:
        """A finished picture."""
        if not _JOB_ID.fullmatch(job_id):
            return None
        try:
            return self._picture_path(job_id, index).read_bytes()
        except FileNotFoundError:
            return None

    async def close(self) -> None:
        """Stop working; unfinished jobs are started again when somebody asks for them."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, job: Job) -> None:
        if job.id not in self._tasks:
            task = asyncio.create_task(self._work(job), name=f"aitubo-{job.id}")
            self._tasks[job.id] = task
            task.add_done_callback(lambda _: self._tasks.pop(job.id, None))

    async def _work(self, job: Job) -> None:
        try:
            source = await self._fetch(job.request.image_path)
            for index in range(job.request.count):
                picture = await asyncio.to_thread(_draw, job.request, index, source)
                self._picture_path(job.id, index).write_bytes(picture)
            job.images = job.request.count
        except (httpx.HTTPError, httpx.InvalidURL, SourceImageError) as error:
            job.failure = f"image cannot be read: {error}"
        self._save(job)

    async def _fetch(self, url: str | None) -> bytes | None:
        if url is None:
            return None
        body = bytearray()
        async with self._source.stream("GET", url, timeout=SOURCE_TIMEOUT_S) as response:
            response.raise_for_status()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > SOURCE_BYTES_MAX:
                    raise SourceImageError("the source image is too large")
        return bytes(body)

    def _forget_old(self) -> None:
        paths = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in paths[:-JOBS_MAX]:
            for picture in self._folder.glob(f"{path.stem}-*.jpg"):
                picture.unlink()
            path.unlink()

    def _save(self, job: Job) -> None:
        fresh = self._path(job.id).with_suffix(".new")
        fresh.write_text(json.dumps(job.model_dump(mode="json")))
        fresh.replace(self._path(job.id))

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.json"

    def _picture_path(self, job_id: str, index: int) -> Path:
        return self._folder / f"{job_id}-{index}.jpg"


def _draw(request: JobRequest, index: int, source: bytes | None) -> bytes:
    seed = request.seed + index
    if source is None:
        return painted(request.prompt, seed, request.width, request.height)
    return restyled(source, request.prompt, seed, round(request.strength * 100))
